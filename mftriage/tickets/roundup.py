"""Roundup's issues (REST API, in Roundup 2.0 and newer; the classes of its classic tracker)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from mftriage.tickets.http import Client
from mftriage.tickets.identity import mark_of
from mftriage.tickets.interface import (
    Attachment,
    Limits,
    Post,
    Server,
    Settings,
    Ticket,
    Variable,
)
from mftriage.tickets.markup import Markup

__all__ = ["Roundup"]

_DATA = "/rest/data"


class Roundup:
    """Issues of one tracker.  An issue has no text of its own: its first message is the description."""

    limits = Limits(
        name="Roundup",
        target="roundup:[#N]",
        markup=("plain",),
        body=500_000,
        title=255,
        attachment=None,
        hidden_mark=False,
        search="the summaries of messages, where the fingerprint stands too",
        variables=(
            Variable("ROUNDUP_URL", "the tracker's address"),
            Variable("ROUNDUP_USER", "the account's name"),
            Variable("ROUNDUP_PASSWORD", "the account's password", secret=True),
        ),
        rights="Rest Access; View, Create and Edit for issue, msg and file; View for status (the classic tracker's role User)",
    )
    markup: Markup = "plain"

    def __init__(self, client: Client, project: str, settings: Settings) -> None:
        """Take the client; a tracker is one project."""
        self._client = client

    @staticmethod
    def server(settings: Settings) -> Server:
        """Return the tracker's address, the account as a header, and those against forged requests."""
        base = settings["ROUNDUP_URL"]
        account = f"{settings['ROUNDUP_USER']}:{settings['ROUNDUP_PASSWORD']}"
        parts = urlsplit(base)
        return Server(
            base,
            {
                "Authorization": f"Basic {b64encode(account.encode()).decode()}",
                "X-Requested-With": "rest",
                "Origin": f"{parts.scheme}://{parts.netloc}",
                "Referer": f"{base}/",
            },
        )

    def find(self, fingerprint: str) -> Iterable[str]:
        """Return the issues of the messages whose summary has the fingerprint."""
        messages = self._collection("msg", {"summary": fingerprint})
        if not messages:
            return []
        ids = ",".join(message["id"] for message in messages)
        issues = self._collection("issue", {"messages": ids, "@fields": "status.name"})
        return [issue["id"] for issue in sorted(issues, key=lambda i: _is_closed(i["status.name"]))]

    def read(self, number: str) -> Ticket:
        """Return the issue with its messages and the names of its files."""
        attributes = self._item("issue", number)["attributes"]
        posts = [
            Post((at and message["id"]) or None, self._content(message["id"]))
            for at, message in enumerate(attributes["messages"])
        ]
        names = [
            self._item("file", file["id"])["attributes"]["name"] for file in attributes["files"]
        ]
        status = attributes.get("status")
        closed = status is not None and _is_closed(
            self._item("status", status["id"])["attributes"]["name"]
        )
        url = f"{self._client.base}/issue{number}"
        return Ticket(url, closed, tuple(posts), frozenset(names))

    def create(self, title: str, body: str) -> str:
        """Make an issue with its first message."""
        content = {"title": title, "messages": [self._message(body)]}
        return str(self._client.add(f"{_DATA}/issue", content)["data"]["id"])

    def comment(self, number: str, body: str) -> None:
        """Add a message to an issue."""
        self._link(number, "messages", [self._message(body)])

    def edit(self, number: str, post: Post, body: str) -> None:
        """Put another text into a message."""
        which = post.id or self._item("issue", number)["attributes"]["messages"][0]["id"]
        etag = self._item("msg", which)["@etag"]
        content = {"content": body, "summary": _summary(body)}
        self._client.change(f"{_DATA}/msg/{which}", content, headers={"If-Match": etag})

    def attach(self, number: str, files: Sequence[Attachment]) -> None:
        """Store the files, and add all of them to the issue at once."""
        made = []
        for file in files:
            stored = self._client.add(
                f"{_DATA}/file",
                files={"content": (file.name, file.content, file.media_type)},
                fields={"name": file.name, "type": file.media_type},
            )
            made.append(str(stored["data"]["id"]))
        self._link(number, "files", made)

    def _message(self, body: str) -> str:
        content = {"content": body, "summary": _summary(body), "date": "."}
        return str(self._client.add(f"{_DATA}/msg", content)["data"]["id"])

    def _link(self, number: str, name: str, ids: list[str]) -> None:
        """Add ids to a list of the issue's; adding one twice is adding it once."""
        etag = self._item("issue", number)["@etag"]
        self._client.change(
            f"{_DATA}/issue/{number}",
            {"@op": "add", name: ids},
            method="PATCH",
            headers={"If-Match": etag},
        )

    def _item(self, kind: str, number: str) -> Any:
        return self._client.get(f"{_DATA}/{kind}/{number}")["data"]

    def _content(self, number: str) -> str:
        item = self._client.get(f"{_DATA}/msg/{number}", {"@verbose": "3"})
        return str(item["data"]["attributes"]["content"])

    def _collection(self, kind: str, query: dict[str, str]) -> Any:
        return self._client.get(f"{_DATA}/{kind}", query)["data"]["collection"]


def _summary(body: str) -> str:
    """The fingerprint, which the search looks for: Roundup's own index of texts is not within its API."""
    mark = mark_of(body)
    return mark.fingerprint if mark else ""


def _is_closed(status: str | None) -> bool:
    return status in ("resolved", "done-cbb", "closed")

"""Request Tracker's tickets (REST API 2, in RT 5 and newer)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mftriage.tickets.http import Client
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

__all__ = ["RT"]

_PLACE = "/REST/2.0"


class RT:
    """Tickets of one queue.  Comments are not mailed to requestors, as replies would be."""

    limits = Limits(
        name="RT",
        target="rt:QUEUE[#N]",
        markup=("plain",),
        body=500_000,
        title=200,
        attachment=10_000_000,
        hidden_mark=False,
        search="the subjects of the queue's tickets: the fingerprint stands there, since few servers index contents",
        titled=True,
        variables=(
            Variable("RT_URL", "the server's address"),
            Variable("RT_TOKEN", "an authentication token of the account", secret=True),
        ),
        rights="SeeQueue, ShowTicket, ShowTicketComments, CreateTicket and CommentOnTicket in the queue",
    )
    markup: Markup = "plain"

    def __init__(self, client: Client, project: str, settings: Settings) -> None:
        """Take the client and the queue's name."""
        self._client = client
        self._queue = project

    @staticmethod
    def server(settings: Settings) -> Server:
        """Return the server's address, and the token as a header."""
        return Server(settings["RT_URL"], {"Authorization": f"token {settings['RT_TOKEN']}"})

    def find(self, fingerprint: str) -> Iterable[str]:
        """Return the tickets whose subject has the fingerprint."""
        queue = self._queue.replace("\\", "\\\\").replace("'", "\\'")
        query = {
            "query": f"Queue = '{queue}' AND Subject LIKE '{fingerprint}'",
            "orderby": "id",
            "fields": "Status",
        }
        found = self._client.get(f"{_PLACE}/tickets", query)["items"]
        return [str(ticket["id"]) for ticket in sorted(found, key=_is_closed)]

    def read(self, number: str) -> Ticket:
        """Return the ticket with its texts and the names of its files."""
        ticket = self._client.get(f"{_PLACE}/ticket/{number}")
        posts: list[Post] = []
        files: set[str] = set()
        for part in self._attachments(number):
            if part.get("Filename"):
                files.add(str(part["Filename"]))
            elif part.get("ContentType") == "text/plain":
                text = self._client.get(f"{_PLACE}/attachment/{part['id']}").get("Content") or ""
                content = b64decode(text).decode("utf-8", "replace")
                posts.append(Post(str(part["id"]) if posts else None, content))
        url = f"{self._client.base}/Ticket/Display.html?id={number}"
        return Ticket(url, _is_closed(ticket), tuple(posts), frozenset(files))

    def create(self, title: str, body: str) -> str:
        """Make a ticket."""
        content = {
            "Queue": self._queue,
            "Subject": title,
            "Content": body,
            "ContentType": "text/plain",
        }
        return str(self._client.add(f"{_PLACE}/ticket", content)["id"])

    def comment(self, number: str, body: str) -> None:
        """Comment on a ticket."""
        content = {"Content": body, "ContentType": "text/plain"}
        self._client.add(f"{_PLACE}/ticket/{number}/comment", content)

    def attach(self, number: str, files: Sequence[Attachment]) -> None:
        """Comment with the files."""
        content = {
            "Content": "Evidence: " + ", ".join(file.name for file in files),
            "ContentType": "text/plain",
            "Attachments": [
                {
                    "FileName": file.name,
                    "FileType": file.media_type,
                    "FileContent": b64encode(file.content).decode(),
                }
                for file in files
            ],
        }
        self._client.add(f"{_PLACE}/ticket/{number}/comment", content)

    def _attachments(self, number: str) -> Iterator[Any]:
        """All parts of the ticket's messages, without their content, oldest first."""
        page = 1
        while True:
            query = {"fields": "Filename,ContentType", "per_page": "100", "page": str(page)}
            found = self._client.get(f"{_PLACE}/ticket/{number}/attachments", query)
            yield from found["items"]
            page += 1
            if not found["items"] or page > int(found.get("pages") or 1):
                return


def _is_closed(ticket: dict[str, Any]) -> bool:
    return ticket.get("Status") in ("resolved", "rejected", "deleted")

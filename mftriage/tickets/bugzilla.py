"""Bugzilla's bugs (REST API of Bugzilla 5.0 and newer)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence

from mftriage.errors import UsageError
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

__all__ = ["Bugzilla"]


class Bugzilla:
    """Bugs of one product and component."""

    limits = Limits(
        name="Bugzilla",
        target="bugzilla:PRODUCT/COMPONENT[#N]",
        markup=("plain",),
        body=65_535,
        title=255,
        attachment=1000 << 10,
        hidden_mark=False,
        search="all comments of the component's bugs",
        variables=(
            Variable("BUGZILLA_URL", "the server's address"),
            Variable("BUGZILLA_API_KEY", "the account's API key", secret=True),
            Variable("BUGZILLA_VERSION", "the version of new bugs", default="unspecified"),
        ),
        rights="an account that may file bugs in the product",
    )
    markup: Markup = "plain"

    def __init__(self, client: Client, project: str, settings: Settings) -> None:
        """Take the client and PRODUCT/COMPONENT."""
        product, slash, component = project.partition("/")
        if not (product and slash and component):
            raise UsageError(
                "a bug of Bugzilla's has a product and a component",
                f"name both: --to {self.limits.target}",
            )
        self._client = client
        self._place = {"product": product, "component": component}
        self._version = settings.get("BUGZILLA_VERSION", "unspecified")

    @staticmethod
    def server(settings: Settings) -> Server:
        """Return the server's address, and the key as a header: in a URL it would end up in logs."""
        return Server(
            settings["BUGZILLA_URL"], {"X-BUGZILLA-API-KEY": settings["BUGZILLA_API_KEY"]}
        )

    def find(self, fingerprint: str) -> Iterable[str]:
        """Return the bugs of which a comment has the fingerprint."""
        query = {
            **self._place,
            "f1": "longdesc",
            "o1": "substring",
            "v1": fingerprint,
            "include_fields": "id,is_open",
        }
        found = self._client.get("/rest/bug", query)["bugs"]
        return [str(bug["id"]) for bug in sorted(found, key=lambda bug: not bug["is_open"])]

    def read(self, number: str) -> Ticket:
        """Return the bug with its comments, of which the first is the description, and its files."""
        place = f"/rest/bug/{number}"
        bug = self._client.get(place, {"include_fields": "id,is_open"})["bugs"][0]
        told = self._client.get(f"{place}/comment")["bugs"][str(bug["id"])]["comments"]
        posts = [Post(str(c["id"]) if at else None, c["text"]) for at, c in enumerate(told)]
        query = {"include_fields": "file_name,is_obsolete"}
        stored = self._client.get(f"{place}/attachment", query)["bugs"][str(bug["id"])]
        files = frozenset(str(f["file_name"]) for f in stored if not f.get("is_obsolete"))
        url = f"{self._client.base}/show_bug.cgi?id={number}"
        return Ticket(url, not bug["is_open"], tuple(posts), files)

    def create(self, title: str, body: str) -> str:
        """File a bug."""
        bug = {
            **self._place,
            "version": self._version,
            "op_sys": "Linux",
            "platform": "All",
            "summary": title,
            "description": body,
        }
        return str(self._client.add("/rest/bug", bug)["id"])

    def comment(self, number: str, body: str) -> None:
        """Comment on a bug."""
        self._client.add(f"/rest/bug/{number}/comment", {"comment": body})

    def attach(self, number: str, files: Sequence[Attachment]) -> None:
        """Attach the files, each with its name as the summary."""
        for file in files:
            content = {
                "ids": [int(number)] if number.isdecimal() else [number],
                "file_name": file.name,
                "summary": file.name,
                "content_type": file.media_type,
                "data": b64encode(file.content).decode(),
            }
            self._client.add(f"/rest/bug/{number}/attachment", content)

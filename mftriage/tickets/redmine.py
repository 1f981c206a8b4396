"""Redmine's issues (REST API of Redmine 5.0 and newer)."""

from __future__ import annotations

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

__all__ = ["Redmine"]

_FORMATTINGS: dict[str, Markup] = {"textile": "textile", "markdown": "markdown"}


class Redmine:
    """Issues of one project."""

    limits = Limits(
        name="Redmine",
        target="redmine:PROJECT[#N]",
        markup=("textile", "markdown"),
        body=65_000,
        title=255,
        attachment=None,
        hidden_mark=False,
        search="the descriptions of the project's issues",
        variables=(
            Variable("REDMINE_URL", "the server's address"),
            Variable("REDMINE_API_KEY", "the account's API access key", secret=True),
            Variable(
                "REDMINE_TEXT_FORMATTING", "textile or markdown, as the server is set up", "textile"
            ),
        ),
        rights="a role with View issues, Add issues, Edit own issues, Add notes, Edit own notes",
    )

    def __init__(self, client: Client, project: str, settings: Settings) -> None:
        """Take the client and the project's identifier."""
        formatting = settings.get("REDMINE_TEXT_FORMATTING", "textile")
        if formatting not in _FORMATTINGS:
            raise UsageError(
                "REDMINE_TEXT_FORMATTING is neither textile nor markdown",
                "set it to what the server has under Administration, Settings, Text formatting",
            )
        self._client = client
        self._project = project
        self._markup = _FORMATTINGS[formatting]

    @staticmethod
    def server(settings: Settings) -> Server:
        """Return the server's address, and the key as a header."""
        return Server(settings["REDMINE_URL"], {"X-Redmine-API-Key": settings["REDMINE_API_KEY"]})

    @property
    def markup(self) -> Markup:
        """What the server's text formatting is said to be; Redmine does not tell."""
        return self._markup

    def find(self, fingerprint: str) -> Iterable[str]:
        """Return the issues whose description has the fingerprint."""
        query = {
            "project_id": self._project,
            "status_id": "*",
            "description": f"~{fingerprint}",
            "sort": "id",
        }
        found = self._client.get("/issues.json", query)["issues"]
        return [str(issue["id"]) for issue in sorted(found, key=_is_closed)]

    def read(self, number: str) -> Ticket:
        """Return the issue with its notes and the names of its files."""
        query = {"include": "journals,attachments"}
        issue = self._client.get(f"/issues/{number}.json", query)["issue"]
        posts = [Post(None, issue.get("description") or "")]
        for journal in issue.get("journals") or ():
            if journal.get("notes"):
                posts.append(Post(str(journal["id"]), journal["notes"]))
        files = frozenset(str(file["filename"]) for file in issue.get("attachments") or ())
        url = f"{self._client.base}/issues/{number}"
        return Ticket(url, _is_closed(issue), tuple(posts), files)

    def create(self, title: str, body: str) -> str:
        """Make an issue."""
        issue = {"project_id": self._project, "subject": title, "description": body}
        return str(self._client.add("/issues.json", {"issue": issue})["issue"]["id"])

    def comment(self, number: str, body: str) -> None:
        """Add a note to an issue."""
        self._client.add(f"/issues/{number}.json", {"issue": {"notes": body}}, method="PUT")

    def edit(self, number: str, post: Post, body: str) -> None:
        """Edit the issue's description or a note."""
        if post.id is None:
            self._client.change(f"/issues/{number}.json", {"issue": {"description": body}})
        else:
            self._client.change(f"/journals/{post.id}.json", {"journal": {"notes": body}})

    def attach(self, number: str, files: Sequence[Attachment]) -> None:
        """Upload the files, and add all of them to the issue at once."""
        uploads = []
        for file in files:
            stored = self._client.add(
                "/uploads.json",
                file.content,
                params={"filename": file.name},
                headers={"Content-Type": "application/octet-stream"},
            )
            token = str(stored["upload"]["token"])
            uploads.append({"token": token, "filename": file.name, "content_type": file.media_type})
        self._client.add(f"/issues/{number}.json", {"issue": {"uploads": uploads}}, method="PUT")


def _is_closed(issue: dict[str, dict[str, object]]) -> bool:
    status = issue.get("status") or {}
    # Told since 5.0; before, a date is.
    return bool(status.get("is_closed", issue.get("closed_on") is not None))

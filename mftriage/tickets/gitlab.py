"""GitLab's issues (REST API, version 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

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

__all__ = ["GitLab"]


class GitLab:
    """Issues of one project."""

    limits = Limits(
        name="GitLab",
        target="gitlab:GROUP/PROJECT[#N]",
        markup=("markdown",),
        body=1_000_000,
        title=255,
        attachment=100 << 20,
        hidden_mark=True,
        search="the descriptions of the project's issues",
        variables=(
            Variable("GITLAB_TOKEN", "a token for the project", secret=True),
            Variable("GITLAB_URL", "the server's address", default="https://gitlab.com"),
        ),
        rights="a project access token with the role Reporter and the scope api",
    )
    markup: Markup = "markdown"

    def __init__(self, client: Client, project: str, settings: Settings) -> None:
        """Take the client and GROUP/PROJECT."""
        self._client = client
        self._project = f"/api/v4/projects/{quote(project, safe='')}"
        self._issues = f"{self._project}/issues"

    @staticmethod
    def server(settings: Settings) -> Server:
        """Return the server's address, and the token as a header."""
        return Server(settings["GITLAB_URL"], {"PRIVATE-TOKEN": settings["GITLAB_TOKEN"]})

    def find(self, fingerprint: str) -> Iterable[str]:
        """Return the issues whose description has the fingerprint."""
        query = {"search": fingerprint, "in": "description", "scope": "all"}
        found = sorted(self._client.get(self._issues, query), key=lambda i: i["state"] != "opened")
        return [str(issue["iid"]) for issue in found]

    def read(self, number: str) -> Ticket:
        """Return the issue with its comments; files are those that they link to."""
        issue = self._client.get(f"{self._issues}/{number}")
        posts = [Post(None, issue.get("description") or "")]
        for note in self._client.pages(f"{self._issues}/{number}/notes", {"sort": "asc"}):
            if not note.get("system"):
                posts.append(Post(str(note["id"]), note.get("body") or ""))
        linked = (part for post in posts for part in post.text.split("](/uploads/")[1:])
        files = frozenset(part.partition(")")[0].rpartition("/")[2] for part in linked)
        return Ticket(issue["web_url"], issue["state"] == "closed", tuple(posts), files)

    def create(self, title: str, body: str) -> str:
        """Open an issue."""
        return str(self._client.add(self._issues, {"title": title, "description": body})["iid"])

    def comment(self, number: str, body: str) -> None:
        """Comment on an issue."""
        self._client.add(f"{self._issues}/{number}/notes", {"body": body})

    def edit(self, number: str, post: Post, body: str) -> None:
        """Edit the issue's description or a comment."""
        if post.id is None:
            self._client.change(f"{self._issues}/{number}", {"description": body})
        else:
            self._client.change(f"{self._issues}/{number}/notes/{post.id}", {"body": body})

    def attach(self, number: str, files: Sequence[Attachment]) -> None:
        """Upload the files to the project, and link to them in one comment."""
        links = []
        for file in files:
            part = {"file": (file.name, file.content, file.media_type)}
            stored = self._client.add(f"{self._project}/uploads", files=part)
            # The server's "markdown" would do; its path alone leaves nothing to trust.
            links.append(f"- [{file.name}]({stored['url']})")
        self.comment(number, "Evidence:\n\n" + "\n".join(links))

"""GitHub's issues, github.com and Enterprise (REST API, version 2022-11-28)."""

from __future__ import annotations

from collections.abc import Iterable

from mftriage.tickets.http import Client
from mftriage.tickets.interface import (
    Limits,
    Post,
    Server,
    Settings,
    Ticket,
    Variable,
)
from mftriage.tickets.markup import Markup

__all__ = ["GitHub"]


class GitHub:
    """Issues of one repository."""

    limits = Limits(
        name="GitHub",
        target="github:OWNER/REPO[#N]",
        markup=("markdown",),
        body=65_536,
        title=256,
        attachment=None,
        hidden_mark=True,
        search="the issue search, and the 100 issues changed last, which the search may not have yet",
        variables=(
            Variable("GITHUB_TOKEN", "a token for the repository", secret=True),
            Variable("GITHUB_API_URL", "the API's address", default="https://api.github.com"),
        ),
        rights="a fine-grained token for this repository with Issues: read and write",
    )
    markup: Markup = "markdown"

    def __init__(self, client: Client, project: str, settings: Settings) -> None:
        """Take the client and OWNER/REPO."""
        self._client = client
        self._project = project
        self._issues = f"/repos/{project}/issues"

    @staticmethod
    def server(settings: Settings) -> Server:
        """Return the API's address, and the token as a header."""
        return Server(
            settings["GITHUB_API_URL"],
            {
                "Authorization": f"Bearer {settings['GITHUB_TOKEN']}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )

    def find(self, fingerprint: str) -> Iterable[str]:
        """Return the issues whose text has the fingerprint."""
        query = f'"{fingerprint}" in:body,comments is:issue repo:{self._project}'
        found = list(self._client.get("/search/issues", {"q": query})["items"])
        last = {"state": "all", "sort": "updated", "direction": "desc", "per_page": "100"}
        found += [
            issue
            for issue in self._client.get(self._issues, last)
            if fingerprint in (issue.get("body") or "") and "pull_request" not in issue
        ]
        found.sort(key=lambda issue: issue["state"] != "open")
        return dict.fromkeys(str(issue["number"]) for issue in found)

    def read(self, number: str) -> Ticket:
        """Return the issue with its comments."""
        issue = self._client.get(f"{self._issues}/{number}")
        posts = [Post(None, issue.get("body") or "")]
        for comment in self._client.pages(f"{self._issues}/{number}/comments"):
            posts.append(Post(str(comment["id"]), comment.get("body") or ""))
        return Ticket(issue["html_url"], issue["state"] == "closed", tuple(posts), frozenset())

    def create(self, title: str, body: str) -> str:
        """Open an issue."""
        return str(self._client.add(self._issues, {"title": title, "body": body})["number"])

    def comment(self, number: str, body: str) -> None:
        """Comment on an issue."""
        self._client.add(f"{self._issues}/{number}/comments", {"body": body})

    def edit(self, number: str, post: Post, body: str) -> None:
        """Edit the issue's text or a comment."""
        place = (
            f"{self._issues}/{number}" if post.id is None else f"{self._issues}/comments/{post.id}"
        )
        self._client.change(place, {"body": body}, method="PATCH")

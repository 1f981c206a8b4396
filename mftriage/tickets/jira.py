"""Jira: Cloud (REST version 3, Atlassian Document Format) and Data Center (version 2, wiki markup)."""

from __future__ import annotations

import json
from base64 import b64encode
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
from mftriage.tickets.markup import Markup, adf

__all__ = ["Jira"]


class Jira:
    """Issues of one project."""

    limits = Limits(
        name="Jira",
        target="jira:PROJECT or jira:KEY-N",
        markup=("jira", "adf"),
        body=32_767,
        title=255,
        attachment=None,
        hidden_mark=False,
        search="JQL over all text of the project's issues; its index may lag by seconds",
        variables=(
            Variable("JIRA_URL", "the server's address"),
            Variable("JIRA_TOKEN", "an API token (Cloud) or a personal access token", secret=True),
            Variable("JIRA_EMAIL", "the token's account, for Cloud only", needed=False),
            Variable("JIRA_ISSUE_TYPE", "the type of new issues", default="Bug"),
        ),
        rights="Browse Projects, Create Issues, Add Comments, Edit Own Comments, Edit Issues, Create Attachments",
    )

    def __init__(self, client: Client, project: str, settings: Settings) -> None:
        """Take the client and the project's key."""
        self._client = client
        self._project = project
        self._cloud = "JIRA_EMAIL" in settings
        self._type = settings.get("JIRA_ISSUE_TYPE", "")
        self._api = f"/rest/api/{3 if self._cloud else 2}"

    @staticmethod
    def server(settings: Settings) -> Server:
        """Return the server's address, and the credentials as Cloud or Data Center wants them."""
        token, email = settings["JIRA_TOKEN"], settings.get("JIRA_EMAIL")
        basic = b64encode(f"{email}:{token}".encode()).decode()
        header = f"Basic {basic}" if email else f"Bearer {token}"
        return Server(settings["JIRA_URL"], {"Authorization": header})

    @property
    def markup(self) -> Markup:
        """ADF in the Cloud, wiki markup elsewhere."""
        return "adf" if self._cloud else "jira"

    def find(self, fingerprint: str) -> Iterable[str]:
        """Return the issues whose text has the fingerprint."""
        jql = f'project = "{self._project}" AND text ~ "\\"{fingerprint}\\"" ORDER BY created ASC'
        place = f"{self._api}/search{'/jql' if self._cloud else ''}"
        found = self._client.get(place, {"jql": jql, "fields": "status", "maxResults": "50"})
        return [
            issue["key"] for issue in sorted(found["issues"], key=lambda issue: _is_closed(issue))
        ]

    def read(self, number: str) -> Ticket:
        """Return the issue with its comments and the names of its files."""
        place = f"{self._api}/issue/{number}"
        issue = self._client.get(place, {"fields": "description,status,attachment"})
        fields = issue["fields"]
        posts = [Post(None, self._text(fields.get("description")))]
        posts += [Post(str(c["id"]), self._text(c.get("body"))) for c in self._comments(place)]
        files = frozenset(str(file["filename"]) for file in fields.get("attachment") or ())
        url = f"{self._client.base}/browse/{issue['key']}"
        return Ticket(url, _is_closed(issue), tuple(posts), files)

    def create(self, title: str, body: str) -> str:
        """Make an issue."""
        fields = {
            "project": {"key": self._project},
            "issuetype": {"name": self._type},
            "summary": title,
            "description": self._body(body),
        }
        return str(self._client.add(f"{self._api}/issue", {"fields": fields})["key"])

    def comment(self, number: str, body: str) -> None:
        """Comment on an issue."""
        self._client.add(f"{self._api}/issue/{number}/comment", {"body": self._body(body)})

    def edit(self, number: str, post: Post, body: str) -> None:
        """Edit the issue's description or a comment."""
        place, content = f"{self._api}/issue/{number}", self._body(body)
        if post.id is None:
            self._client.change(place, {"fields": {"description": content}})
        else:
            self._client.change(f"{place}/comment/{post.id}", {"body": content})

    def attach(self, number: str, files: Sequence[Attachment]) -> None:
        """Attach the files; the header is what Jira asks for against forged requests."""
        for file in files:
            self._client.add(
                f"{self._api}/issue/{number}/attachments",
                files={"file": (file.name, file.content, file.media_type)},
                headers={"X-Atlassian-Token": "no-check"},
            )

    def _body(self, body: str) -> Any:
        return json.loads(body) if self._cloud else body

    def _text(self, stored: Any) -> str:
        return adf.plain(stored) if self._cloud else str(stored or "")

    def _comments(self, place: str) -> Iterator[Any]:
        start = 0
        while True:
            query = {"startAt": str(start), "maxResults": "100"}
            page = self._client.get(f"{place}/comment", query)
            yield from page["comments"]
            start += len(page["comments"])
            if not page["comments"] or start >= page["total"]:
                return


def _is_closed(issue: Any) -> bool:
    category = ((issue.get("fields") or {}).get("status") or {}).get("statusCategory") or {}
    return bool(category.get("key") == "done")

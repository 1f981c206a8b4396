"""``--to SYSTEM:PROJECT#N``: where the report goes."""

from __future__ import annotations

import re

from mftriage.errors import UsageError
from mftriage.tickets import SYSTEMS, system
from mftriage.tickets.interface import Target

__all__ = ["FILE", "LINK", "parse"]

FILE, LINK = "file", "link"

_GITHUB = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
# What a project may look like, before #N.  Nothing in it can change the path of a request.
_PROJECTS = {
    "github": _GITHUB,
    "gitlab": r"[\w.][\w.-]*(/[\w.][\w.-]*)+",
    "jira": r"[A-Z][A-Z0-9_]+",
    "redmine": r"[a-z0-9][a-z0-9_-]*",
    "bugzilla": r"[^/#]+/[^#]+",
    "rt": r"[^#]+",
    "roundup": r"",
}
_NUMBER = r"(?:#(?P<number>\d{1,12}))?"
_JIRA_ISSUE = re.compile(r"(?P<project>[A-Z][A-Z0-9_]+)-\d{1,12}")


def parse(text: str) -> Target:
    """Return the target.  Raises ``UsageError`` with what a target of that system looks like."""
    name, colon, rest = text.partition(":")
    if name == FILE and rest:
        return Target(FILE, rest)
    if name == LINK:
        if re.fullmatch(f"github:{_GITHUB}", rest) and _is_path(rest):
            return Target(LINK, rest.removeprefix("github:"))
        raise UsageError(
            f"{text!r} is no target", "a link is for GitHub: --to link:github:OWNER/REPO"
        )
    if name not in SYSTEMS or not colon:
        known = ", ".join([*SYSTEMS, FILE, LINK])
        raise UsageError(
            f"there is no ticket system {name!r}",
            f"one of: {known}, as in --to github:OWNER/REPO#12",
        )
    issue = _JIRA_ISSUE.fullmatch(rest) if name == "jira" else None
    if issue:
        return Target(name, issue["project"], rest)
    found = re.fullmatch(f"(?P<project>{_PROJECTS[name]}){_NUMBER}", rest)
    if not found or not _is_path(found["project"]) or (name == "jira" and found["number"]):
        raise UsageError(
            f"{text!r} is no target of {system(name).limits.name}'s",
            f"write it as --to {system(name).limits.target}",
        )
    return Target(name, found["project"], found["number"])


def _is_path(project: str) -> bool:
    return project.isprintable() and not {".", ".."} & set(project.split("/"))

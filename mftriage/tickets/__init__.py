"""The report on a ticket: once, readable, with the evidence, and nothing of a log taken for markup.

``attach`` is the whole of it.  One ticket system is one module (``interface.py`` says what it
must have) and one row of ``SYSTEMS``; what each can hold is declared there, and docs/tickets.md shows it.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from mftriage.tickets.interface import System

__all__ = ["SYSTEMS", "Entry", "system"]


class Entry(NamedTuple):
    """Where a system lives."""

    module: str
    name: str


SYSTEMS = {
    "github": Entry("mftriage.tickets.github", "GitHub"),
    "gitlab": Entry("mftriage.tickets.gitlab", "GitLab"),
    "jira": Entry("mftriage.tickets.jira", "Jira"),
    "redmine": Entry("mftriage.tickets.redmine", "Redmine"),
    "bugzilla": Entry("mftriage.tickets.bugzilla", "Bugzilla"),
    "rt": Entry("mftriage.tickets.rt", "RT"),
    "roundup": Entry("mftriage.tickets.roundup", "Roundup"),
}


def system(name: str) -> type[System]:
    """Return the class of a system by its word of a target; ``KeyError`` where there is none."""
    entry = SYSTEMS[name]
    made: type[System] = getattr(import_module(entry.module), entry.name)
    return made

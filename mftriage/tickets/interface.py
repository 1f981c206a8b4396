"""What a ticket system is: its limits, and the few calls that a report needs.

One system is one module with a class that has these members, and one row of
``mftriage.tickets.SYSTEMS``.  A system knows its server's requests and answers, and nothing of a triage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from mftriage.tickets.http import Client
from mftriage.tickets.markup import Markup

__all__ = [
    "Attachment",
    "Edits",
    "Holds",
    "Limits",
    "Post",
    "Server",
    "Settings",
    "System",
    "Target",
    "Ticket",
    "Variable",
]

Settings: TypeAlias = Mapping[str, str]
"""The values of a system's environment variables by their names; one without a value is not in it."""


@dataclass(frozen=True)
class Variable:
    """An environment variable: its name and what it holds; ``secret`` ones may lie in a keyring."""

    name: str
    meaning: str
    default: str | None = None
    secret: bool = False
    needed: bool = True


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a system holds and can do, as docs/tickets.md shows it.

    ``body`` and ``title`` are in characters, ``attachment`` in bytes; ``attachment`` is null where the
    system sets no limit of its own, 0 where it takes none by its API.  ``edits`` says whether a
    description or comment can be changed later.  ``titled`` systems are searched by the title, so
    the fingerprint stands in it.
    """

    name: str
    target: str
    markup: tuple[Markup, ...]
    body: int
    title: int
    attachment: int | None
    hidden_mark: bool
    search: str
    titled: bool = False
    variables: tuple[Variable, ...]
    rights: str


@dataclass(frozen=True)
class Server:
    """Where a system's server is, and the headers that hold the credentials."""

    base: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Target:
    """Where to: a system, its project (or queue, or folder), and the ticket where one is named."""

    system: str
    project: str
    number: str | None = None


@dataclass(frozen=True)
class Attachment:
    """A file that goes with the report."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Post:
    """A description (``id`` is null) or a comment: its text, as comparable as the system allows."""

    id: str | None
    text: str


@dataclass(frozen=True)
class Ticket:
    """A ticket as it stands: where people see it, whether it is closed, and what is on it."""

    url: str
    closed: bool
    posts: tuple[Post, ...]
    files: frozenset[str]


class System(Protocol):
    """One ticket system.  Every call raises ``TicketError`` where the server refuses or fails."""

    limits: ClassVar[Limits]

    def __init__(self, client: Client, project: str, settings: Settings) -> None:
        """Take the client, which knows the server and the credentials, and the project."""

    @staticmethod
    def server(settings: Settings) -> Server:
        """Return the server, by the values of the environment variables."""

    @property
    def markup(self) -> Markup:
        """The markup that this server takes."""

    def find(self, fingerprint: str) -> Iterable[str]:
        """Return the numbers of tickets that may have the fingerprint, open ones first."""

    def read(self, number: str) -> Ticket:
        """Return the ticket."""

    def create(self, title: str, body: str) -> str:
        """Make a ticket and return its number."""

    def comment(self, number: str, body: str) -> None:
        """Add a comment."""


@runtime_checkable
class Edits(Protocol):
    """A system whose descriptions and comments can be changed later."""

    def edit(self, number: str, post: Post, body: str) -> None:
        """Put ``body`` in place of a post's text."""


@runtime_checkable
class Holds(Protocol):
    """A system that takes files by its API."""

    def attach(self, number: str, files: Sequence[Attachment]) -> None:
        """Add files to the ticket."""

"""Put a report on a ticket: find, create or add, attach, and read back what was stored.

The same crash is told once: a second run changes what is there.  Another crash of the same fault is a
comment on the same ticket.  A text that a person has edited is left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from urllib.parse import quote

from mftriage.codec import to_json
from mftriage.errors import TicketError, UsageError
from mftriage.model import Triage
from mftriage.render import render
from mftriage.render.words import count, size
from mftriage.tickets import system as system_class
from mftriage.tickets.document import Document, fitted
from mftriage.tickets.http import Client, NotFound, Request, Uncertain
from mftriage.tickets.identity import Mark, crash_id, digest, fingerprint, mark_of, without_mark
from mftriage.tickets.interface import (
    Attachment,
    Edits,
    Holds,
    Limits,
    Post,
    System,
    Target,
    Ticket,
)
from mftriage.tickets.markup import comparable, signed, writer
from mftriage.tickets.report import report, sighting, title
from mftriage.tickets.settings import settings

__all__ = ["Outcome", "Parcel", "attach", "files_of", "link", "local", "parcel"]

P = ParamSpec("P")
T = TypeVar("T")

_REPORT, _JSON, _CAPSULE = "mftriage-report", "mftriage-triage", "mftriage-capsule"
_MARK_ROOM = 100  # characters of the mark and what stands around it
_PAUSE = 2.0  # seconds until what a failing server has stored can be found
_TITLE = 200  # characters, where no system sets a limit
_LINK = 7_500  # characters of a URL; GitHub's server takes 8 KiB


@dataclass(frozen=True)
class Parcel:
    """What goes to a ticket: the title, the report, the short form for a ticket that is there, the files."""

    triage: Triage
    files: tuple[Attachment, ...]
    fingerprint: str
    crash: str

    def mark(self, text: str) -> Mark:
        """Return the mark of a text with this digest."""
        return Mark(self.fingerprint, self.crash, text)


@dataclass(frozen=True)
class Outcome:
    """What was done: "created", "added to", "updated" or "up to date", and where.

    ``files`` were attached now; ``left_out`` are too large for the system; ``unsent`` are the requests of a dry run.
    """

    done: str
    url: str
    closed: bool = False
    files: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unsent: tuple[Request, ...] = ()

    def __str__(self) -> str:
        """Return it as one line."""
        state = " (which is closed)" if self.closed else ""
        files = f", with {', '.join(self.files)}" if self.files else ""
        large = f"; too large for it: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.done} {self.url}{state}{files}{large}"


def parcel(triage: Triage, capsule: bytes | None = None) -> Parcel:
    """Make what goes to a ticket: the report as HTML, the JSON, and the capsule where there is one."""
    files = files_of(triage, capsule)
    return Parcel(triage, files, fingerprint(triage), crash_id(triage))


def files_of(triage: Triage, capsule: bytes | None) -> tuple[Attachment, ...]:
    """Return the files.  Their names hold a digest of their content: one that is there needs no second copy."""
    contents = [
        (_REPORT, ".html", "text/html", render(triage, "html").encode()),
        (_JSON, ".json", "application/json", to_json(triage).encode()),
    ]
    if capsule is not None:
        contents.append((_CAPSULE, ".elf.zst", "application/zstd", capsule))
    return tuple(
        Attachment(f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}{suffix}", kind, data)
        for stem, suffix, kind, data in contents
    )


def attach(
    sent: Parcel,
    target: Target,
    environment: Mapping[str, str],
    *,
    update_only: bool = False,
    dry_run: bool = False,
    wait: Callable[[float], None] | None = None,
) -> Outcome:
    """Put the parcel on the ticket of its fault, and return what was done.

    ``update_only`` changes what is there, and adds nothing.  ``dry_run`` reads, but what would change
    anything is only told.  Raises ``TicketError`` and ``UsageError``.
    """
    kind = system_class(target.system)
    given = settings(kind.limits, environment)
    server = kind.server(given)
    secrets = [given[v.name] for v in kind.limits.variables if v.secret and v.name in given]
    secrets += [h.rpartition(" ")[2] for n, h in server.headers.items() if n == "Authorization"]
    unsent: list[Request] | None = [] if dry_run else None
    client = Client(
        kind.limits.name,
        server.base,
        server.headers,
        tuple(secrets),
        hint=_hint(kind.limits),
        rights=kind.limits.rights,
        unsent=unsent,
        **({} if wait is None else {"wait": wait}),
    )
    try:
        work = _Attach(kind(client, target.project, given), sent, client)
        return work.run(target.number, update_only=update_only)
    finally:
        client.close()


def local(sent: Parcel) -> tuple[tuple[str, bytes], ...]:
    """Return what would be sent as files, by name: title, text in Markdown, and the attachments."""
    document = report(sent.triage, [file.name for file in sent.files], sent.fingerprint)
    body = writer("markdown")(document)
    text = signed(body, sent.mark(digest(body)).line(hidden=True), "markdown")
    return (
        ("title.txt", f"{title(sent.triage, _TITLE)}\n".encode()),
        ("body.md", f"{text}\n".encode()),
        *((file.name, file.content) for file in sent.files),
    )


def link(sent: Parcel, project: str) -> str:
    """Return the address of GitHub's form for a new issue, filled in: it needs no credentials."""
    limits = system_class("github").limits
    head = (
        f"https://github.com/{project}/issues/new?title={quote(title(sent.triage, _TITLE))}&body="
    )
    document = report(sent.triage, (), sent.fingerprint)
    room = _LINK - len(head) - 3 * _MARK_ROOM
    body = fitted(document, writer("markdown"), lambda text: len(quote(text)), room)
    mark = sent.mark(digest(body)).line(hidden=limits.hidden_mark)
    return head + quote(signed(body, mark, "markdown"))


class _Attach:
    """One parcel on its way to one system."""

    def __init__(self, system: System, sent: Parcel, client: Client) -> None:
        self._system = system
        self._sent = sent
        self._client = client
        self._limits = system.limits
        self._dry = client.unsent is not None
        self._written = ""
        most = self._limits.attachment
        held = sent.files if isinstance(system, Holds) else ()
        large = [file for file in held if most is not None and len(file.content) > most]
        for file in large:
            if file.name.startswith(_CAPSULE):
                raise UsageError(
                    f"{file.name} has {size(len(file.content))}, and {self._limits.name} takes {size(most or 0)}",
                    "leave out --capsule, or cut a smaller one with --lean",
                )
        self._files = tuple(file for file in held if file not in large)
        self._left_out = tuple(file.name for file in large)

    def run(self, number: str | None, *, update_only: bool) -> Outcome:
        """Do all of it."""
        if number is not None:
            ticket: Ticket | None = self._ask(self._system.read, number)
        else:
            number, ticket = self._found()
        if number is None or ticket is None:
            if update_only:
                raise TicketError(
                    f"{self._limits.name} has no ticket with {self._sent.fingerprint}",
                    "leave out --update to make one",
                )
            number, done = self._create()
        else:
            done = self._tell(number, ticket, update_only)
        try:
            if ticket is None or (done != "up to date" and not self._dry):
                ticket = self._stored(number)
            attached = self._attach(number, ticket)
        except TicketError as error:
            where = f"{self._limits.name}'s ticket {number}"
            raise TicketError(f"{done} {where}, but then: {error.message}", error.remedy) from error
        if done == "up to date" and attached:
            done = "updated"
        unsent = tuple(self._client.unsent or ())
        return Outcome(done, ticket.url, ticket.closed, attached, self._left_out, unsent)

    def _found(self) -> tuple[str | None, Ticket | None]:
        """The ticket of the fault, by what is written on it; a search may find more than that."""
        for number in self._ask(self._system.find, self._sent.fingerprint):
            try:
                ticket = self._ask(self._system.read, number)
            except NotFound:
                continue
            if self._ours(ticket):
                return number, ticket
        return None, None

    def _ours(self, ticket: Ticket) -> list[tuple[Post, Mark]]:
        marks = ((post, mark_of(post.text)) for post in ticket.posts)
        return [(p, m) for p, m in marks if m and m.fingerprint == self._sent.fingerprint]

    def _create(self) -> tuple[str, str]:
        tag = self._sent.fingerprint if self._limits.titled else None
        heading = title(self._sent.triage, self._limits.title, tag)
        body = self._body(report)
        number = self._once(
            lambda: self._ask(self._system.create, heading, body), lambda: self._found()[0]
        )
        return number, "created"

    def _tell(self, number: str, ticket: Ticket, update_only: bool) -> str:
        """Tell it on a ticket that is there, unless that was done."""
        ours = self._ours(ticket)
        mine = [at for at, (_, mark) in enumerate(ours) if mark.crash == self._sent.crash]
        # The first that is told of a fault is the report; what comes later is short.
        body = self._body(report if not ours or 0 in mine else sighting)
        if any(ours[at][1].digest == self._digest(body) for at in mine):
            return "up to date"
        if mine and isinstance(self._system, Edits):
            post, mark = ours[mine[-1]]
            if digest(without_mark(post.text)) == mark.digest:  # nobody has edited it
                self._ask(self._system.edit, number, post, body)
                return "updated"
        if update_only and not mine:
            raise TicketError(
                f"{ticket.url} says nothing of this crash", "leave out --update to add it"
            )

        def comment() -> str:
            self._ask(self._system.comment, number, body)
            return number

        self._once(
            comment,
            lambda: number if self._is_on(self._ask(self._system.read, number), body) else None,
        )
        return "added to"

    def _ask(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call the system, whose server may answer with something that is not in its documents."""
        try:
            return call(*arguments, **named)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise TicketError(
                f"{self._limits.name} answered with something that is not as in its documents ({error!r})",
                f"check that {self._client.base} is its address, and that the server is not older than docs/tickets.md says",
            ) from error

    def _once(self, do: Callable[[], str], found: Callable[[], str | None]) -> str:
        """Add something; where the server failed meanwhile, look for it before the second try."""
        try:
            return do()
        except Uncertain:
            self._client.wait(_PAUSE)
            there = found()
            return do() if there is None else there

    def _stored(self, number: str) -> Ticket:
        """The ticket as it is now, with all of the text: some systems cut it, some keep the old one."""
        if self._dry:
            return Ticket(f"a new ticket of {self._limits.name}'s", False, (), frozenset())
        ticket = self._ask(self._system.read, number)
        if not self._is_on(ticket, self._written):
            raise TicketError(
                f"the text on {ticket.url} is not the one that was sent ({count(len(self._written), 'character')})",
                f"look at it there: {self._limits.name} has cut or changed it",
            )
        return ticket

    def _is_on(self, ticket: Ticket, body: str) -> bool:
        wanted = digest(comparable(body, self._system.markup))
        return any(digest(post.text) == wanted for post in ticket.posts)

    def _attach(self, number: str, ticket: Ticket) -> tuple[str, ...]:
        """Attach the files that are not there; return the names of those that are now."""
        before = ticket.files
        missing = [file for file in self._files if file.name not in before]
        if not missing or not isinstance(self._system, Holds):
            return ()
        try:
            self._ask(self._system.attach, number, missing)
        except Uncertain:
            self._client.wait(_PAUSE)
            there = self._ask(self._system.read, number).files
            if again := [file for file in missing if file.name not in there]:
                self._ask(self._system.attach, number, again)
        if not self._dry:
            there = self._ask(self._system.read, number).files
            lost = [file.name for file in missing if file.name not in there]
            if lost:
                raise TicketError(
                    f"{self._limits.name} has not kept {', '.join(lost)}",
                    "look for a limit on attachments there",
                )
        return tuple(file.name for file in missing)

    def _body(self, make: Callable[..., Document]) -> str:
        """The text in the system's markup, no longer than it takes, with the mark as its last line."""
        names = [file.name for file in self._files]
        document = make(self._sent.triage, names, self._sent.fingerprint)
        budget = self._limits.body - _MARK_ROOM
        text = fitted(document, writer(self._system.markup), len, budget)
        mark = self._sent.mark(digest(comparable(text, self._system.markup)))
        self._written = signed(
            text, mark.line(hidden=self._limits.hidden_mark), self._system.markup
        )
        return self._written

    def _digest(self, body: str) -> str | None:
        mark = mark_of(comparable(body, self._system.markup))
        return mark.digest if mark else None


def _hint(limits: Limits) -> str:
    names = " and ".join(v.name for v in limits.variables if v.secret)
    return f"check {names}; it needs: {limits.rights}"

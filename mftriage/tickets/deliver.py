"""From the command line's words to a ticket: what is sent, where to, and what is told of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from mftriage.codec import from_json
from mftriage.errors import TicketError, UsageError
from mftriage.model import Triage
from mftriage.render.words import count
from mftriage.tickets import system
from mftriage.tickets.attach import Parcel, attach, link, local, parcel
from mftriage.tickets.http import Request
from mftriage.tickets.interface import Target
from mftriage.tickets.many import attach_new
from mftriage.tickets.settings import settings
from mftriage.tickets.target import FILE, LINK

__all__ = ["check", "check_batch", "deliver", "deliver_new", "saved"]

# How codec.to_json begins; a journal in JSON begins with a brace too.
_RESULT = re.compile(rb'\s*\{\s*"schema_version"')


def saved(path: Path) -> Triage | None:
    """Return the triage that ``path`` holds as JSON; ``None`` where it is something else to analyse.

    Raises ``UsageError``: it is one, and can't be read.
    """
    try:
        with path.open("rb") as file:
            if not _RESULT.match(file.read(4096)):
                return None
            file.seek(0)
            return from_json(file.read().decode("utf-8", "replace"))
    except (OSError, ValueError):
        return None  # the analysis tells what is wrong with it


def check(target: Target, environment: Mapping[str, str]) -> None:
    """Raise ``UsageError`` where something is missing for this target: before an analysis, not after."""
    if target.system not in (FILE, LINK):
        if find_spec("httpx") is None:
            raise UsageError("ticket systems need httpx", "pip install 'mftriage[tickets]'")
        settings(system(target.system).limits, environment)


def deliver(
    sent: Parcel,
    target: Target,
    environment: Mapping[str, str],
    *,
    update_only: bool = False,
    dry_run: bool = False,
) -> Iterator[str]:
    """Deliver the parcel and yield what to tell.  Raises ``TicketError`` and ``UsageError``."""
    if target.system == LINK:
        yield link(sent, target.project)
    elif target.system == FILE:
        yield from _written(sent, Path(target.project), dry_run=dry_run)
    else:
        outcome = attach(sent, target, environment, update_only=update_only, dry_run=dry_run)
        yield from map(_shown, outcome.unsent)
        yield f"dry run, nothing was sent: would have {outcome}" if dry_run else str(outcome)


def deliver_new(
    paths: Iterable[Path], target: Target, environment: Mapping[str, str], *, most: int
) -> Iterator[str]:
    """Deliver the saved results of a batch that blame memory, ``most`` of them, and yield what to tell.

    Raises ``TicketError`` at the end where some could not be delivered.
    """
    places: dict[int, Path] = {}
    triages = []
    for path in paths:
        triage = saved(path)
        if triage is not None:  # a report that has gone meanwhile is no ticket
            places[id(triage)] = path
            triages.append(triage)

    def send(triage: Triage) -> str:
        return "\n".join(deliver(parcel(triage), target, environment))

    run = attach_new(triages, send, most=most)
    yield from run.told
    for triage in run.left:
        yield f"left: mftriage attach {shlex.quote(str(places[id(triage)]))}"
    if run.failed:
        first = run.failed[0][1]
        names = " ".join(shlex.quote(str(places[id(triage)])) for triage, _ in run.failed)
        raise TicketError(
            f"{count(len(run.failed), 'report')} could not be put on a ticket: {first.message}",
            f"{first.remedy}; then mftriage attach each of: {names}",
        )


def check_batch(target: Target, environment: Mapping[str, str]) -> None:
    """Raise ``UsageError`` where a batch can't deliver to this target."""
    if target.number is not None or target.system == LINK:
        raise UsageError(
            "a batch finds several faults, and each has a ticket of its own",
            "name a project without a ticket's number: --attach github:OWNER/REPO",
        )
    check(target, environment)


def _shown(request: Request) -> str:
    return f"{request.method} {request.url}\n{request.body}\n"


def _written(sent: Parcel, folder: Path, *, dry_run: bool) -> Iterator[str]:
    """What would be sent, as files in a folder of the fault's and the crash's name."""
    place = folder / sent.fingerprint / sent.crash
    for name, content in local(sent):
        target = place / name
        if not dry_run:
            try:
                place.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            except OSError as error:
                raise UsageError(
                    f"can't write {str(target)!r}: {error.strerror}",
                    "name another folder: --to file:DIR",
                ) from error
        yield f"{'would write' if dry_run else 'wrote'} {target}"

"""Tickets for what a batch has found: which results get one, and how many in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import get_args

from mftriage.errors import TicketError
from mftriage.model import Confidence, Triage, VerdictKind
from mftriage.tickets.identity import crash_id, fingerprint

__all__ = ["BLAMED", "Run", "attach_new"]

# Verdicts that somebody has to act on.
BLAMED: tuple[VerdictKind, ...] = (
    "unrecoverable-panic",
    "fatal-hardware-error",
    "delayed-crash",
    "possible-delayed-crash",
)
_SUREST_FIRST: tuple[Confidence, ...] = get_args(Confidence)
_PATIENCE = 3  # failures in a row: then it is the server


@dataclass
class Run:
    """What became of each result: told now, failed, or left for the next run.

    ``passed_over`` counts those that are not sure enough, blame no memory, or were told already in this run.
    """

    told: list[str] = field(default_factory=list)
    failed: list[tuple[Triage, TicketError]] = field(default_factory=list)
    left: list[Triage] = field(default_factory=list)
    passed_over: int = 0


def attach_new(
    triages: Iterable[Triage],
    send: Callable[[Triage], str],
    *,
    floor: Confidence = "high",
    most: int = 20,
) -> Run:
    """Send each result that blames memory with a confidence of ``floor`` or more; ``send`` says what it did.

    At most ``most`` are sent, the surest first, so that a fleet's bad night does not flood a tracker; the
    others are ``left``, and so are all after three failures in a row.  Pure but for ``send``.
    """
    run = Run()
    sure = _SUREST_FIRST[: _SUREST_FIRST.index(floor) + 1]
    wanted: dict[tuple[str, str], Triage] = {}
    for triage in triages:
        key = fingerprint(triage), crash_id(triage)
        verdict = triage.verdict
        if verdict.kind not in BLAMED or verdict.confidence not in sure or key in wanted:
            run.passed_over += 1
        else:
            wanted[key] = triage
    in_a_row = sent = 0
    for triage in sorted(wanted.values(), key=lambda t: sure.index(t.verdict.confidence)):
        if sent >= most or in_a_row >= _PATIENCE:
            run.left.append(triage)
            continue
        sent += 1
        try:
            run.told.append(send(triage))
            in_a_row = 0
        except TicketError as error:
            run.failed.append((triage, error))
            in_a_row += 1
    return run

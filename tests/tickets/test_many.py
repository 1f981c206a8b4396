"""A batch's tickets: sure ones only, no more than so many, and no end where one fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mftriage.errors import TicketError
from mftriage.model import Confidence, Triage, VerdictKind
from mftriage.tickets.many import attach_new
from tests.render.samples import X86_SYSCTL_PANIC


def crash(
    number: int,
    confidence: Confidence = "high",
    kind: VerdictKind = "unrecoverable-panic",
) -> Triage:
    verdict = replace(X86_SYSCTL_PANIC.verdict, kind=kind, confidence=confidence)
    dump = replace(X86_SYSCTL_PANIC.dump, hostname=f"host-{number}")
    return replace(X86_SYSCTL_PANIC, verdict=verdict, dump=dump)


class Tracker:
    """Takes what is sent, but for the hosts that it fails for."""

    def __init__(self, *failing: int) -> None:
        self.hosts: list[str] = []
        self.failing = {f"host-{number}" for number in failing}

    def __call__(self, triage: Triage) -> str:
        host = triage.dump.hostname or ""
        self.hosts.append(host)
        if host in self.failing:
            raise TicketError("no", "wait")
        return f"created {host}"


@pytest.mark.parametrize(
    ("floor", "expected"),
    [("certain", 1), ("high", 2), ("medium", 3), ("low", 4)],
)
def test_the_floor(floor: Confidence, expected: int) -> None:
    tracker = Tracker()
    levels: tuple[Confidence, ...] = ("low", "high", "certain", "medium")
    run = attach_new([crash(n, level) for n, level in enumerate(levels)], tracker, floor=floor)
    assert len(run.told) == len(tracker.hosts) == expected
    assert run.passed_over == 4 - expected


@pytest.mark.parametrize("kind", ["unrelated", "no-crash", "inconclusive", "hardware-not-memory"])
def test_no_ticket_where_memory_is_not_blamed(kind: VerdictKind) -> None:
    tracker = Tracker()
    run = attach_new([crash(1, "certain", kind)], tracker, floor="low")
    assert not tracker.hosts and run.passed_over == 1


def test_no_more_than_so_many_the_surest_first() -> None:
    tracker = Tracker()
    found = [crash(1), crash(2), crash(3, "certain"), crash(4)]
    run = attach_new(found, tracker, most=2)
    assert tracker.hosts == ["host-3", "host-1"]
    assert run.left == [found[1], found[3]]


def test_the_same_crash_is_sent_once() -> None:
    tracker = Tracker()
    run = attach_new([crash(1), crash(1), crash(2)], tracker)
    assert tracker.hosts == ["host-1", "host-2"] and run.passed_over == 1


def test_one_failure_ends_nothing_and_three_in_a_row_are_the_server() -> None:
    tracker = Tracker(1, 2, 4, 5, 6)
    run = attach_new([crash(n) for n in range(1, 9)], tracker)
    assert tracker.hosts == [f"host-{n}" for n in range(1, 7)]
    assert [t.dump.hostname for t, _ in run.failed] == [f"host-{n}" for n in (1, 2, 4, 5, 6)]
    assert [t.dump.hostname for t in run.left] == ["host-7", "host-8"]

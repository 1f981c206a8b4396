"""Searches over a whole dump: bounded in time, and remembered for the capsule.

A search reads much and proves little with each read, so its reads are not recorded.  What it
found is kept by name; a capsule carries these findings, and the analysis of a capsule takes them
from there instead of searching pages that it does not hold.

Anyone can write a capsule, so a finding in it is a claim: its type is checked, and where the pages
that the capsule does hold can tell, its truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from mftriage.dump import Dump
from mftriage.symbols import DAMAGED

T = TypeVar("T", bound=object)


class Budget:
    """Seconds that a search may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.ran_out = False

    def spent(self) -> bool:
        """Whether the time is over; ``ran_out`` remembers that a search was cut short."""
        if not self.ran_out and time.monotonic() >= self._end:
            self.ran_out = True
        return self.ran_out


def is_number(value: object, end: int = 1 << 64) -> bool:
    """Whether ``value`` is a whole number below ``end``, such as an address."""
    return type(value) is int and 0 <= value < end


def _anything(_: object) -> bool:
    return True


def search(
    dump: Dump, name: str, run: Callable[[], T], check: Callable[[Any], bool] = _anything
) -> T:
    """What ``run`` finds, or found when this capsule was cut.

    ``run`` must return something that JSON can hold, ``None`` where it finds nothing.  ``check``
    says whether what a capsule claims can be so; what fails it, or breaks it, was not found.
    """
    findings = dump.sidecar.findings
    if not dump.sidecar.is_capsule:
        if name not in findings:
            with dump.memory.unrecorded():
                findings[name] = run()
        return cast(T, findings[name])
    if findings.setdefault(name) is not None:
        try:
            believed = check(findings[name])
        except (*DAMAGED, AttributeError, TypeError):
            believed = False
        if not believed:
            findings[name] = None
    return cast(T, findings[name])

"""Searches over a whole dump: bounded in time, and remembered for the capsule.

A search reads much and proves little with each read, so its reads are not recorded.  What it
found is kept by name; a capsule carries these findings, and the analysis of a capsule takes them
from there instead of searching pages that it does not hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, cast

from mftriage.dump import Dump

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


def search(dump: Dump, name: str, run: Callable[[], T]) -> T:
    """What ``run`` finds, or found when this capsule was cut.

    ``run`` must return something that JSON can hold.
    """
    findings = dump.sidecar.findings
    if name not in findings:
        if dump.sidecar.is_capsule:
            findings[name] = None
        else:
            with dump.memory.unrecorded():
                findings[name] = run()
    return cast(T, findings[name])

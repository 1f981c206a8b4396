"""The kernel's own account: "Memory failure" lines of mm/memory-failure.c as events.

One event runs: [unhandlable page.] [Sending SIGBUS to ...]* [recovery action for TYPE: RESULT]
[panic].  The action line (action_result) closes it; lines without one come from soft offlining
or from a lost race and make no event, unless they say that the failure itself was not handled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from mftriage.log import LogRecord
from mftriage.model import Action, MemoryFailure, Task, hexed

# The words behind the pfn are matched from their start on: a search takes quadratic time in some lines.
# "Memory failure: 0x1: ..." since 4.x; "MCE 0x1: dirty LRU page recovery: Recovered" before.
_LINE = re.compile(r"(?:Memory [Ff]ailure: |MCE )(0x[0-9a-f]{1,16}):? (.*)")
_ACTION = re.compile(r"recovery action for (.+): (Ignored|Failed|Delayed|Recovered)")
_OLD_ACTION = re.compile(r"(.+?) (?:page )?recovery: (Ignored|Failed|Delayed|Recovered)")
_KILLED = re.compile(
    r"(?:Sending SIGBUS to|Killing|forcibly killing) (.+):(\d+) (?:due to hardware memory corruption|because of)"
)
_PANIC = re.compile(
    r"Kernel panic - not syncing: Memory failure: (0x[0-9a-f]{1,16}): unrecoverable page"
)
_PANIC_NO_RECOVERY = re.compile(
    r"Kernel panic - not syncing: Memory failure on page ([0-9a-f]{1,16})"
)
# The end of the matter without an action line: memory_failure returns before action_result.
_UNHANDLED = ("already hardware poisoned", "memory outside kernel control")
_QUEUE_FULL = re.compile(
    r"Memory failure: buffer overflow when queuing memory failure at (0x[0-9a-f]{1,16})"
)
_INJECTED = re.compile(
    r"Injecting memory failure (?:at pfn (0x[0-9a-f]{1,16})|for (?:pfn|page) (0x[0-9a-f]{1,16}) )"
)


@dataclass
class _Open:
    """An event that has no action line yet."""

    killed: list[Task] = field(default_factory=list)


def memory_failures(log: Iterable[LogRecord], page_size: int | None) -> tuple[MemoryFailure, ...]:
    """Every memory failure in the log, oldest first; ``page_size`` in bytes gives the addresses."""
    events: list[MemoryFailure] = []
    pending: dict[str, _Open] = {}

    def close(time: float | None, pfn: str, page_type: str | None, action: str | None) -> None:
        killed = tuple(pending.pop(pfn, _Open()).killed)
        events.append(
            MemoryFailure(
                time=time,
                pfn=pfn,
                physical_address=hexed(int(pfn, 16) * page_size) if page_size else None,
                page_type=page_type,
                action=cast(Action, action.lower()) if action else None,
                killed=killed,
            )
        )

    for record in log:
        text = record.text
        if "emory failure" not in text and "emory Failure" not in text and "MCE 0x" not in text:
            continue
        if panic := _PANIC.search(text) or _PANIC_NO_RECOVERY.search(text):
            pfn = f"{int(panic[1], 16):#x}"
            at = next((i for i in reversed(range(len(events))) if events[i].pfn == pfn), None)
            if at is None:
                close(record.time, pfn, None, None)
                at = len(events) - 1
            events[at] = _panicked(events[at])
        elif line := _LINE.search(text):
            pfn, words = f"{int(line[1], 16):#x}", line[2]
            if action := _ACTION.match(words) or _OLD_ACTION.match(words):
                close(record.time, pfn, action[1], action[2])
            elif killed := _KILLED.match(words):
                task = Task(comm=killed[1], pid=int(killed[2]))
                pending.setdefault(pfn, _Open()).killed.append(task)
            elif words.rstrip(".") in _UNHANDLED:
                close(record.time, pfn, words.rstrip("."), None)
        elif lost := _QUEUE_FULL.search(text):
            close(record.time, f"{int(lost[1], 16):#x}", "lost: the kernel's queue was full", None)
    return tuple(events)


def _panicked(event: MemoryFailure) -> MemoryFailure:
    from dataclasses import replace

    return replace(event, panicked=True)


def injected_pfns(log: Iterable[LogRecord]) -> frozenset[int]:
    """The pfns that a test injected by software (mm/hwpoison-inject.c, mm/madvise.c)."""
    found = (_INJECTED.search(record.text) for record in log)
    return frozenset(int(m[1] or m[2], 16) for m in found if m)

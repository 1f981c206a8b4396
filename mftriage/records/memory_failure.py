"""The kernel's own account: "Memory failure" lines of mm/memory-failure.c as events.

One event runs: [unhandlable page.] [Sending SIGBUS to ...]* [recovery action for TYPE: RESULT]
[panic].  The action line (action_result) closes it; lines without one come from soft offlining
or from a lost race and make no event, unless they say that the failure itself was not handled,
or that a process was killed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, cast

from mftriage.log import LogRecord
from mftriage.model import Action, MemoryFailure, PageRequest, Task, hexed
from mftriage.pattern import Pattern

# The words behind the pfn are matched from their start on: a search takes quadratic time in some lines.
# "Memory failure: 0x1: ..." since 4.x; "MCE 0x1: dirty LRU page recovery: Recovered" before.
_LINE = Pattern(r"(?:Memory [Ff]ailure: |MCE )(0x[0-9a-f]{1,16}):? (.*)")
_ACTION = Pattern(r"recovery action for (.+?)\s*: (Ignored|Failed|Delayed|Recovered)")
_OLD_ACTION = Pattern(r"(.+?) (?:page )?recovery: (Ignored|Failed|Delayed|Recovered)")
_KILLED = Pattern(
    r"(?:Sending SIGBUS to|Killing|[Ff]orcibly killing) (.+):(\d{1,10}) (?:due to hardware memory corruption|because of)"
)
_REFERENCES = Pattern(r"(.+) still referenced by (\d{1,18}) users")
_PANIC = Pattern(
    r"Kernel panic - not syncing: Memory failure: (0x[0-9a-f]{1,16}): unrecoverable page"
)
_PANIC_NO_RECOVERY = Pattern(r"Kernel panic - not syncing: Memory failure on page ([0-9a-f]{1,16})")
# The end of the matter without an action line: memory_failure returns before action_result.
_UNHANDLED = ("already hardware poisoned", "memory outside kernel control")
_UNHANDLABLE = ("unhandlable page",)
_QUEUE_FULL = Pattern(
    r"Memory failure: buffer overflow when queuing memory failure at (0x[0-9a-f]{1,16})"
)
_INJECTED = Pattern(
    r"Injecting memory failure (?:at pfn (0x[0-9a-f]{1,16})|for (?:pfn|page) (0x[0-9a-f]{1,16}) (?:at process virtual address |at )?(0x[0-9a-f]{1,16})?)"
)
_SOFT_REQUEST = Pattern(
    r"Soft offlining (?:pfn|page) (0x[0-9a-f]{1,16})(?: at (?:process virtual address )?(0x[0-9a-f]{1,16}))?"
)
_SOFT = Pattern(r"[Ss]oft[ _][Oo]ffline: (0x[0-9a-f]{1,16}):? (.*)")
_UNPOISON = Pattern(r"Unpoison: (?:(0x[0-9a-f]{1,16}): (.*)|([A-Za-z].*?) (0x[0-9a-f]{1,16})\s*$)")
_MAX_NOTES = 8


class _Open:
    """An event that has no action line yet."""

    def __init__(self, time: float | None) -> None:
        self.time = time
        self.killed: list[Task] = []
        self.notes: list[str] = []
        self.unhandlable = False
        self.references: int | None = None


def memory_failures(log: Iterable[LogRecord], page_size: int | None) -> tuple[MemoryFailure, ...]:
    """Every memory failure in the log, oldest first; ``page_size`` in bytes gives the addresses."""
    events: list[MemoryFailure] = []
    pending: dict[str, _Open] = {}
    last: dict[str, int] = {}  # the newest event of each pfn

    def close(time: float | None, pfn: str, page_type: str | None, action: str | None) -> None:
        before = pending.pop(pfn, _Open(time))
        last[pfn] = len(events)
        events.append(
            MemoryFailure(
                time=time,
                pfn=pfn,
                physical_address=hexed(int(pfn, 16) * page_size % (1 << 64)) if page_size else None,
                page_type=page_type,
                action=cast(Action, action.lower()) if action else None,
                killed=tuple(before.killed),
                unhandlable=before.unhandlable,
                references=before.references,
                notes=tuple(before.notes),
            )
        )

    for record in log:
        text = record.text.lstrip()
        if "emory failure" not in text and "emory Failure" not in text and "MCE 0x" not in text:
            continue
        if panic := _PANIC.match(text) or _PANIC_NO_RECOVERY.match(text):
            pfn = f"{int(panic[1], 16):#x}"
            if pfn not in last:
                close(record.time, pfn, None, None)
            events[last[pfn]] = replace(events[last[pfn]], panicked=True)
        elif line := _LINE.match(text):
            pfn, words = f"{int(line[1], 16):#x}", line[2].strip()
            if action := _ACTION.match(words) or _OLD_ACTION.match(words):
                close(record.time, pfn, action[1], action[2])
                continue
            if words.rstrip(".") in _UNHANDLED:
                close(record.time, pfn, words.rstrip("."), None)
                continue
            now = pending.setdefault(pfn, _Open(record.time))
            if killed := _KILLED.match(words):
                now.killed.append(Task(comm=killed[1], pid=int(killed[2])))
            elif words.rstrip(".") in _UNHANDLABLE:
                now.unhandlable = True
            elif used := _REFERENCES.match(words):
                now.references = int(used[2])
            elif len(now.notes) < _MAX_NOTES:
                now.notes.append(words)
        elif lost := _QUEUE_FULL.match(text):
            close(record.time, f"{int(lost[1], 16):#x}", "lost: the kernel's queue was full", None)
    for pfn, left in list(pending.items()):
        if not left.killed:
            continue
        if pfn in last:  # a second error in the page: its processes are killed, no more is said
            before = events[last[pfn]]
            events[last[pfn]] = replace(before, killed=(*before.killed, *left.killed))
        else:
            close(left.time, pfn, None, None)
    return tuple(events)


def marked_after(
    events: tuple[MemoryFailure, ...], log: Sequence[LogRecord], crash_at: int | None
) -> tuple[MemoryFailure, ...]:
    """The failures of ``log``, those marked that were logged behind the crash's first line."""
    if crash_at is None or not events:
        return events
    died, last = log[crash_at].time, events[-1].time
    if died is not None and last is not None and last < died:
        return events
    before = len(memory_failures(log[: crash_at + 1], None))
    return (*events[:before], *(replace(event, after_crash=True) for event in events[before:]))


def injected_pfns(log: Iterable[LogRecord]) -> frozenset[int]:
    """The pfns that a test injected by software (mm/hwpoison-inject.c, mm/madvise.c)."""
    found = (_INJECTED.search(record.text) for record in log if "njecting" in record.text)
    return frozenset(int(m[1] or m[2], 16) for m in found if m)


def page_requests(log: Iterable[LogRecord]) -> tuple[PageRequest, ...]:
    """What was asked of pages, which is no memory failure: tests, and soft offlining, oldest first."""
    found: list[PageRequest] = []
    for record in log:
        text = record.text
        if "njecting memory" in text and (match := _INJECTED.search(text)):
            found.append(_request(record, "injection", match[1] or match[2], match[3]))
        elif "oft offlin" in text and (match := _SOFT_REQUEST.search(text)):
            found.append(_request(record, "soft-offline-request", match[1], match[2]))
        elif ("oft offline" in text or "oft_offline" in text) and (match := _SOFT.search(text)):
            found.append(_request(record, "soft-offline", match[1], None, match[2].strip()))
        elif "npoison: " in text and (match := _UNPOISON.search(text)):
            pfn, result = match[1] or match[4], match[2] or match[3]
            found.append(_request(record, "unpoison", pfn, None, result.strip()))
    return tuple(found)


def _request(
    record: LogRecord,
    kind: Literal["injection", "soft-offline", "soft-offline-request", "unpoison"],
    pfn: str,
    virtual: str | None,
    result: str | None = None,
) -> PageRequest:
    return PageRequest(
        time=record.time,
        kind=kind,
        pfn=f"{int(pfn, 16):#x}",
        virtual_address=f"{int(virtual, 16):#x}" if virtual else None,
        result=result,
    )

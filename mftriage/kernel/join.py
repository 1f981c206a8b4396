"""Records of both media, each event once.

What the log tells and what memory tells of the same event become one record: the log's, with what
only memory has filled in, and both media named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from mftriage.model import HardwareError

T = TypeVar("T")

_APART = 10.0  # seconds between the two times of one event: printing may lag behind


def joined(
    logged: Sequence[HardwareError], in_memory: Sequence[HardwareError]
) -> list[HardwareError]:
    """All records, oldest first, those without a time last."""
    found = list(logged)
    open_ = set(range(len(found)))  # a line of the log is one event: it joins one record of memory
    rest: list[HardwareError] = []
    # Those with a time choose first: an identical record without one takes what is left.
    for record in sorted(in_memory, key=lambda r: r.time is None):
        same = [i for i in open_ if _same(found[i], record)]
        if not same:
            rest.append(record)
            continue
        if record.time is None:
            index = max(same)
        else:
            index = min(same, key=lambda i: (_distance(found[i], record), -i))
        open_.remove(index)
        # A line stands for one error, though the same came again and was not printed.
        count = max((r.count for r in (found[index], record) if r.count is not None), default=None)
        both = _filled(found[index], record)
        found[index] = replace(both, media=("log", "memory"), count=count)
    return sorted([*found, *rest], key=lambda r: (r.time is None, r.time or 0.0))


def _same(logged: HardwareError, in_memory: HardwareError) -> bool:
    if logged.source != in_memory.source or in_memory.medium in logged.media:
        return False
    if logged.previous_boot != in_memory.previous_boot:
        return False
    if logged.mce is not None or in_memory.mce is not None:
        return _registers(logged) == _registers(in_memory)
    if _distance(logged, in_memory) > _APART:
        return False
    return _key(logged) == _key(in_memory) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(_names(logged), _names(in_memory), strict=True)
    )


def _registers(record: HardwareError) -> tuple[object, ...]:
    m = record.mce
    return (m.status, m.bank, m.addr, record.wall_time) if m else (record,)


def _key(record: HardwareError) -> tuple[object, ...]:
    """What must be the same, even where one of the two does not know it."""
    is_memory = bool(record.is_memory)
    return record.severity, is_memory, record.physical_address if is_memory else None


def _names(record: HardwareError) -> tuple[str | None, ...]:
    """What must be the same where both know it; words for what is not memory may differ."""
    return (
        record.error_type if record.is_memory and record.source == "ghes" else None,
        record.dimm.label if record.dimm else None,
    )


def _distance(a: HardwareError, b: HardwareError) -> float:
    return 0.0 if a.time is None or b.time is None else abs(a.time - b.time)


def _filled(base: T, other: T) -> T:
    """``base``, with the fields that it lacks taken from ``other``."""
    changes: dict[str, Any] = {}
    for field in fields(base):  # type: ignore[arg-type]
        ours, theirs = getattr(base, field.name), getattr(other, field.name)
        if ours is None:
            changes[field.name] = theirs
        elif is_dataclass(ours) and is_dataclass(theirs):
            changes[field.name] = _filled(ours, theirs)
    return replace(base, **changes)  # type: ignore[type-var]

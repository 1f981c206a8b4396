"""Times and sizes as people type them."""

from __future__ import annotations

import re
from datetime import datetime

from mftriage.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def duration(text: str) -> float:
    """Seconds in ``90d``, ``12h``, ``30m``, ``600s``, ``2w``, or a number of seconds.  Raises ``UsageError``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip(), re.ASCII)
    if match is None:
        raise UsageError(f"{text!r} is no length of time", "for example 7d, 12h, 30m or 600")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def moment(text: str, now: float) -> float:
    """Seconds since 1970 of ``2026-11-23``, ``2026-11-23T18:00+00:00``, or of ``7d`` before ``now``.

    A time without a zone is local.  Raises ``UsageError``.
    """
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        pass
    try:
        return now - duration(text)
    except UsageError:
        raise UsageError(
            f"{text!r} is no time", "for example 7d, 2026-11-23 or 2026-11-23T18:00Z"
        ) from None


def size(text: str) -> int:
    """Bytes in ``2G``, ``512M``, ``1.5GiB``.  Raises ``UsageError``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", text.strip(), re.ASCII | re.I)
    if match is None:
        raise UsageError(f"{text!r} is no size", "for example 2G or 512M")
    return int(float(match[1]) * _BYTES[match[2].upper()])

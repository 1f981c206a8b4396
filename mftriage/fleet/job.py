"""What a batch asks of a worker, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Job", "Outcome", "Settings"]


@dataclass(frozen=True)
class Settings:
    """What a result depends on, besides the dump and mftriage's version."""

    symbols: str | None = None
    scan_seconds: float = 10.0
    capsules: bool = False
    redact_map: str | None = None


class Job(NamedTuple):
    """One dump to analyse: the object ``name`` of the source at ``location``, into the folder ``out``."""

    key: str
    location: str
    name: str
    out: str
    settings: dict[str, Any]


class Outcome(NamedTuple):
    """What came of it: ``status`` is ok, failed or skipped, ``row`` that of the fleet table."""

    status: str
    reason: str | None
    row: dict[str, Any] | None = None

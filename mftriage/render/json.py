"""The triage as JSON: the contract that other programs read."""

from __future__ import annotations

from mftriage import codec
from mftriage.model import Triage


def render(triage: Triage, *, color: bool = False, width: int = 100) -> str:
    """Return ``triage`` as JSON; ``color`` and ``width`` mean nothing here."""
    return codec.to_json(triage)

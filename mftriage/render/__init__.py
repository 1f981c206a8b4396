"""Renderers: a Triage in, one string out.

One format is one module with ``render(triage, *, color, width) -> str``, and one row of
``FORMATS``.  A module is imported when its format is asked for: jinja2 alone takes longer to
import than a terminal report takes to make.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from mftriage.errors import UsageError
from mftriage.model import Triage

__all__ = ["FORMATS", "Format", "render", "suffix"]


class Format(NamedTuple):
    """Where a renderer lives, and how the name of its file ends."""

    module: str
    suffix: str


FORMATS = {
    "text": Format("mftriage.render.text", ".txt"),
    "json": Format("mftriage.render.json", ".json"),
    "markdown": Format("mftriage.render.markdown", ".md"),
    "html": Format("mftriage.render.html", ".html"),
}


def render(triage: Triage, fmt: str, *, color: bool = False, width: int = 100) -> str:
    """Return ``triage`` in the format ``fmt``, as text that is always valid UTF-8.

    Args:
        triage: what to show.
        fmt: a key of ``FORMATS``.
        color: whether the terminal report may use colour; the other formats have none.
        width: columns of the terminal; the other formats have none.
    """
    module = import_module(_format(fmt).module)
    rendered: str = module.render(triage, color=color, width=width)
    return rendered


def suffix(fmt: str) -> str:
    """Return the suffix of a file in the format ``fmt``, with its dot."""
    return _format(fmt).suffix


def _format(fmt: str) -> Format:
    try:
        return FORMATS[fmt]
    except KeyError:
        raise UsageError(
            f"There is no format {fmt!r}.", f"Use one of: {', '.join(FORMATS)}."
        ) from None

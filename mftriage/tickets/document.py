"""A small document: what a ticket's text is made of, before any system's markup.

A writer (``mftriage.tickets.markup``) turns it into one markup.  The strings in it are those of
the dump: each writer escapes all of them for its own markup, headings and labels excepted, which are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

__all__ = [
    "Block",
    "Document",
    "Items",
    "Lines",
    "Paragraph",
    "Section",
    "Steps",
    "Table",
    "fitted",
]


@dataclass(frozen=True)
class Paragraph:
    """A sentence or a few."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Items:
    """Label and value, a row each; ``code`` says that the values are no sentences."""

    rows: tuple[tuple[str, str], ...]
    code: bool = False


@dataclass(frozen=True)
class Steps:
    """A numbered list of sentences; what stands between back-ticks in one is a command."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table whose last column has sentences, and the others values."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Lines:
    """Lines of a log, as they are."""

    lines: tuple[str, ...]


Block: TypeAlias = Paragraph | Items | Steps | Table | Lines


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.  What is in ``blocks`` stays together or is left out."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A ticket's text: ``lead`` and ``tail`` are always in it, of the sections as many as fit."""

    heading: str
    lead: tuple[Block, ...]
    sections: tuple[Section, ...]
    tail: tuple[Block, ...]


def pieces(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a sentence with commands between back-ticks, and whether each is a command."""
    parts = text.split("`")
    if not len(parts) % 2:  # one that has no partner
        return [(text, False)]
    return [(part, bool(at % 2)) for at, part in enumerate(parts) if part]


def fitted(
    document: Document, write: Callable[[Document], str], size: Callable[[str], int], budget: int
) -> str:
    """Return ``document``, written, with as many of its sections as ``budget`` allows.

    The sections come in the order of their weight: one that does not fit is left out, and a
    sentence at the end says so.  ``size`` measures as the budget is counted.
    """

    def written(kept: list[Section], left_out: list[str]) -> str:
        note = f"Left out for length: {', '.join(left_out)}. The full report has all of it."
        tail = (Paragraph(note), *document.tail) if left_out else document.tail
        return write(replace(document, sections=tuple(kept), tail=tail))

    whole = written(list(document.sections), [])
    if size(whole) <= budget:
        return whole
    kept: list[Section] = []
    headings = [section.heading for section in document.sections]
    for section in document.sections:
        # As if all the others were left out: the note is never longer than that.
        if size(written([*kept, section], headings)) <= budget:
            kept.append(section)
    gone = [section.heading for section in document.sections if section not in kept]
    return written(kept, gone)

"""Jira's wiki markup, which Jira Data Center takes (REST version 2)."""

from __future__ import annotations

from mftriage.render.words import clip
from mftriage.tickets.document import (
    Block,
    Document,
    Items,
    Lines,
    Paragraph,
    Steps,
    Table,
    pieces,
)
from mftriage.tickets.markup.entities import LONGEST, escaped, kept_open

__all__ = ["write"]


def write(document: Document) -> str:
    """Return the document in Jira's wiki markup."""
    parts = [f"h2. {document.heading}", *map(_block, document.lead)]
    for section in document.sections:
        parts += [f"h3. {section.heading}", *map(_block, section.blocks)]
    return "\n\n".join([*parts, *map(_block, document.tail)])


def _block(block: Block) -> str:
    match block:
        case Paragraph(text, strong):
            return f"*{escaped(text)}*" if strong and text.strip() else escaped(text)
        case Items(rows, as_code):
            show = _code if as_code else escaped
            return "\n".join(f"* *{label}*: {show(value)}" for label, value in rows)
        case Steps(texts):
            return "\n".join(f"# {_with_commands(text)}" for text in texts)
        case Table(heads, rows):
            lines = ["||" + "||".join(heads) + "||"]
            # An empty cell would be taken for the mark of a heading.
            lines += [
                "|"
                + "|".join([*(_code(c) or " " for c in row[:-1]), escaped(row[-1]) or " "])
                + "|"
                for row in rows
            ]
            return "\n".join(lines)
        case Lines(lines):
            return "\n".join(
                ("{noformat}", *(kept_open(line, "{") for line in lines), "{noformat}")
            )


def _code(text: str) -> str:
    return f"{{{{{escaped(text)}}}}}" if text.strip() else ""


def _with_commands(text: str) -> str:
    parts = pieces(clip(text, LONGEST))
    return " ".join(_code(part) if is_command else escaped(part) for part, is_command in parts)

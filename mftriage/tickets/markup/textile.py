"""Textile as Redmine has it (lib/redmine/wiki_formatting/textile)."""

from __future__ import annotations

from mftriage.tickets.document import Block, Document, Items, Lines, Paragraph, Steps, Table
from mftriage.tickets.markup.entities import escaped, kept_open

__all__ = ["write"]


def write(document: Document) -> str:
    """Return the document as Textile."""
    parts = [f"h2. {document.heading}", *map(_block, document.lead)]
    for section in document.sections:
        parts += [f"h3. {section.heading}", *map(_block, section.blocks)]
    return "\n\n".join([*parts, *map(_block, document.tail)])


def _block(block: Block) -> str:
    match block:
        case Paragraph(text, strong):
            return f"*{escaped(text)}*" if strong and text.strip() else escaped(text)
        case Items(rows):
            return "\n".join(f"* *{label}*: {escaped(value)}" for label, value in rows)
        case Steps(texts):
            return "\n".join(f"# {escaped(text)}" for text in texts)
        case Table(heads, rows):
            lines = ["|_. " + "|_. ".join(heads) + "|"]
            lines += [
                "| " + " | ".join(escaped(cell) or " " for cell in row) + " |" for row in rows
            ]
            return "\n".join(lines)
        case Lines(lines):
            return "\n".join(("<pre>", *(kept_open(line, "<") for line in lines), "</pre>"))

"""Plain text for Bugzilla, RT and Roundup, which make links of some words in it."""

from __future__ import annotations

import re

from mftriage.render.words import clip, visible
from mftriage.tickets.document import Block, Document, Items, Lines, Paragraph, Steps, Table

__all__ = ["write"]

_LONGEST = 1000

# "bug 12" and "comment 3" (Bugzilla::Template, quoteUrls), "issue12" and "msg3" (Roundup's
# hyper_re; the classes of its classic tracker), "ticket 12".
_REFERENCE = re.compile(
    r"(?i)(?<![a-z_])(bug|comment|attachment|issue|ticket|problem|defect|msg|message|file|user|keyword|"
    r"priority|status|query)(?=\s*#?\s*\d)"
)


def write(document: Document) -> str:
    """Return the document as plain text."""
    parts = [f"{document.heading}\n{'=' * len(document.heading)}", *map(_block, document.lead)]
    for section in document.sections:
        body = "\n\n".join(map(_block, section.blocks))
        parts.append(f"{section.heading}\n{'-' * len(section.heading)}\n{body}")
    return "\n\n".join([*parts, *map(_block, document.tail)])


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return _text(text)
        case Items(rows):
            return "\n".join(f"{label}: {_text(value)}" for label, value in rows)
        case Steps(texts):
            return "\n".join(f"{at}. {_text(text)}" for at, text in enumerate(texts, 1))
        case Table(rows=rows):
            return "\n".join("- " + "  ".join(_text(cell) for cell in row if cell) for row in rows)
        case Lines(lines):
            # Indented: not a quotation, not the end of the text, not a command for a mail gateway.
            return "\n".join(f"  {_text(line)}" for line in lines)


def _text(text: str) -> str:
    """Return ``text`` with what would become a link pulled apart: "bug: 12", "http[:]//", "a[@]b"."""
    text = clip(visible(text), _LONGEST)
    text = _REFERENCE.sub(r"\1:", text)
    text = re.sub(r"#(?=\d)", "# ", text)
    text = text.replace("://", "[:]//").replace("@", "[@]")
    return re.sub(r"(?i)\bwww\.", lambda match: match[0][:-1] + "[.]", text)

"""Markdown for GitHub, GitLab and Redmine, by the escaping functions of the Markdown report."""

from __future__ import annotations

from collections.abc import Iterable

from mftriage.render.markdown import code, fence, prose, table, with_commands
from mftriage.tickets.document import Block, Document, Items, Lines, Paragraph, Steps, Table

__all__ = ["write"]


def write(document: Document) -> str:
    """Return the document as Markdown."""
    parts = [f"## {document.heading}", *map(_block, document.lead)]
    for section in document.sections:
        parts += [f"### {section.heading}", *map(_block, section.blocks)]
    return "\n\n".join([*parts, *map(_block, document.tail)])


def _block(block: Block) -> str:
    match block:
        case Paragraph(text, strong):
            return f"**{prose(text)}**" if strong and text.strip() else prose(text)
        case Items(rows, as_code):
            show = code if as_code else prose
            return "\n".join(f"- **{label}**: {show(value)}" for label, value in rows)
        case Steps(texts):
            return "\n".join(f"1. {with_commands(text)}" for text in texts)
        case Table(heads, rows):
            return table(heads, rows)
        case Lines(lines):
            return fence(_shifted(lines))


def _shifted(lines: Iterable[str]) -> Iterable[str]:
    """Lines of which none begins like a fence or a quick action.

    GitLab looks for "/close" before it parses Markdown, and takes the first line of back-ticks for
    the fence's end (lib/gitlab/quick_actions/extractor.rb).
    """
    for line in lines:
        yield f" {line}" if line.startswith(("/", "`", "~")) else line

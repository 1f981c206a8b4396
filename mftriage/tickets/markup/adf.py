"""Atlassian Document Format, which Jira Cloud takes (REST version 3): nodes, so that text is never parsed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from mftriage.render.words import clip, visible
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

__all__ = ["plain", "signed", "write"]

_LONGEST = 1000


def write(document: Document) -> str:
    """Return the document as the JSON of a "doc" node."""
    content = [_heading(2, document.heading), *map(_block, document.lead)]
    for section in document.sections:
        content += [_heading(3, section.heading), *map(_block, section.blocks)]
    content += map(_block, document.tail)
    return json.dumps({"version": 1, "type": "doc", "content": content}, ensure_ascii=False)


def plain(node: Any) -> str:
    """Return the text of a node, a line for each paragraph: what is compared with what was stored."""
    return "\n".join(_lines(node))


def signed(text: str, mark: str) -> str:
    """Return the document with ``mark`` as its last paragraph."""
    document = json.loads(text)
    document["content"].append(_paragraph(_text(mark)))
    return json.dumps(document, ensure_ascii=False)


def _lines(node: Any) -> Iterator[str]:
    content = node.get("content") or [] if isinstance(node, dict) else []
    if any(isinstance(inner, dict) and inner.get("type") == "text" for inner in content):
        yield "".join(str(inner.get("text", "")) for inner in content if isinstance(inner, dict))
        return
    for inner in content:
        yield from _lines(inner)


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Paragraph(text, strong):
            return _paragraph(_text(text, *(["strong"] if strong else [])))
        case Items(rows, as_code):
            marks = ["code"] if as_code else []
            return _list(
                "bulletList",
                ([*_text(f"{label}: ", "strong"), *_text(value, *marks)] for label, value in rows),
            )
        case Steps(texts):
            return _list("orderedList", map(_with_commands, texts))
        case Table(heads, rows):
            lines = [_row("tableHeader", (_text(head) for head in heads))]
            lines += [
                _row("tableCell", [*(_text(c, "code") for c in row[:-1]), _text(row[-1])])
                for row in rows
            ]
            return {"type": "table", "content": lines}
        case Lines(lines):
            text = "\n".join(clip(visible(line), _LONGEST) or " " for line in lines)
            return {"type": "codeBlock", "content": [{"type": "text", "text": text}]}


def _text(text: str, *marks: str) -> list[dict[str, Any]]:
    """A text node; an empty one is not allowed."""
    shown = clip(visible(text), _LONGEST)
    node: dict[str, Any] = {"type": "text", "text": shown}
    if marks:
        node["marks"] = [{"type": mark} for mark in marks]
    return [node] if shown else []


def _with_commands(text: str) -> list[dict[str, Any]]:
    shown = clip(text, _LONGEST)
    return [
        node
        for part, is_command in pieces(shown)
        for node in _text(part, *(["code"] if is_command else []))
    ]


def _paragraph(content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "paragraph", "content": content}


def _heading(level: int, text: str) -> dict[str, Any]:
    return {"type": "heading", "attrs": {"level": level}, "content": _text(text)}


def _list(kind: str, items: Iterable[list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "type": kind,
        "content": [{"type": "listItem", "content": [_paragraph(item)]} for item in items],
    }


def _row(kind: str, cells: Iterable[list[dict[str, Any]]]) -> dict[str, Any]:
    content = [{"type": kind, "attrs": {}, "content": [_paragraph(cell)]} for cell in cells]
    return {"type": "tableRow", "content": content}

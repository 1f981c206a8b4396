"""Writers: a ``Document`` in, one system's markup out.

What a dump says stays text in all of them: nobody is mentioned, nothing is closed, linked or loaded, and no
macro runs.  A writer is one module with ``write(document) -> str``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Literal

from mftriage.tickets.document import Document

__all__ = ["MARKUPS", "Markup", "comparable", "signed", "writer"]

Markup = Literal["markdown", "textile", "jira", "adf", "plain"]

# What each is called where people read it.
MARKUPS: dict[Markup, str] = {
    "markdown": "Markdown",
    "textile": "Textile",
    "jira": "Jira's wiki markup",
    "adf": "Atlassian Document Format",
    "plain": "plain text",
}


def writer(markup: Markup) -> Callable[[Document], str]:
    """Return the function that writes a document in ``markup``."""
    write: Callable[[Document], str] = import_module(f"mftriage.tickets.markup.{markup}").write
    return write


def signed(text: str, mark: str, markup: Markup) -> str:
    """Return what a writer has written with ``mark`` as its last line; there is no markup in a mark."""
    if markup == "adf":
        from mftriage.tickets.markup import adf

        return adf.signed(text, mark)
    return f"{text}\n\n{mark}"


def comparable(text: str, markup: Markup) -> str:
    """Return what a writer has written as it is read back: of ADF the text, since servers add keys to nodes."""
    if markup == "adf":
        from mftriage.tickets.markup import adf

        return adf.plain(json.loads(text))
    return text

"""The fleet in every format: for people (table, markdown, html) and for programs (csv, json, parquet).

For programs it is the table itself, or with ``by`` its groups.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mftriage.errors import UsageError
from mftriage.fleet import dashboard, phrases
from mftriage.fleet.masked import masked
from mftriage.fleet.phrases import Table
from mftriage.fleet.summary import BY, COLUMNS, groups, summarize
from mftriage.fleet.table import load
from mftriage.redact import redacting
from mftriage.render import markdown, words
from mftriage.render.text import cells, shorten, wrap

__all__ = ["FORMATS", "Request", "render"]

_TOP = 20  # rows of a table for people
_NAMED = {"page", *BY.values()}
_FORMULA = frozenset("=+-@|%＝＋－＠")
_NAME = 48  # columns that a name may take on a terminal


class Request(NamedTuple):
    """What is wanted.

    The batch's folder, a key of ``BY``, the terminal's columns, the file that it will be, and the
    map of tokens if it is to be masked.
    """

    folder: Path
    by: str | None = None
    width: int = 100
    target: Path | None = None
    redact_map: Path | None = None


def render(request: Request, fmt: str) -> tuple[bytes, list[str]]:
    """Return the fleet in a format; see ``mftriage.fleet.render``."""
    if fmt not in FORMATS:
        raise UsageError(f"there is no format {fmt!r}", f"one of: {', '.join(FORMATS)}")
    if request.by is not None and request.by not in BY:
        raise UsageError(f"can't group by {request.by!r}", f"one of: {', '.join(BY)}")
    write, columns = FORMATS[fmt]
    if request.by and columns is None:
        columns = COLUMNS
    frame = load(request.folder, None if request.redact_map else columns)
    problems = frame.attrs["problems"]
    if request.redact_map is not None:
        with redacting(request.redact_map) as redactor:
            frame = masked(frame, redactor)
        frame.attrs["problems"] = []  # they name files
        request = request._replace(target=None)  # the reports that it would link to may not be
    return write(frame, request), problems


def _text(frame: pd.DataFrame, request: Request) -> bytes:
    rows = phrases.headline(summarize(frame))
    label = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, value in rows:
        wrapped = wrap(value, max(request.width - label, 40))
        lines += [f"{name:<{label}}{wrapped[0]}", *(" " * label + more for more in wrapped[1:])]
    for table in _tables(frame, request.by):
        lines += ["", *_drawn(table, request.width)]
    return ("\n".join(lines) + "\n").encode()


def _tables(frame: pd.DataFrame, by: str | None) -> list[Table]:
    """The groups that are asked for; else the offenders, and all DIMMs."""
    if by is not None:
        return [phrases.grouped(frame, by, _TOP)]
    return [*phrases.offenders(frame, _TOP), phrases.grouped(frame, "dimm", _TOP)]


def _drawn(table: Table, width: int) -> list[str]:
    """A table for a terminal; the last column takes what is left of the width."""
    title = table.title + (f" ({table.note})" if table.note else "")
    if not table.rows:
        return [title, "  none is known"]
    rows = [
        table.heads,
        *(tuple(shorten(words.visible(v), _NAME) for v in row) for row in table.rows),
    ]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    lines = [title]
    for row in rows:
        parts = []
        for index, (value, wide) in enumerate(zip(row, widths, strict=True)):
            pad = " " * (wide - cells(value))
            number = table.rows[0][index].replace(",", "").isdigit()
            parts.append(pad + value if number else value + pad)
        lines.append("  " + shorten("  ".join(parts).rstrip(), max(width, 60) - 2))
    more = table.total - len(table.rows)
    return lines + ([f"  … and {more:,} more: see -f csv"] if more else [])


def _markdown(frame: pd.DataFrame, request: Request) -> bytes:
    figures = phrases.headline(summarize(frame))
    parts = ["## Fleet", markdown.table(("What", "Figure"), figures, "prose", "prose")]
    for table in _tables(frame, request.by):
        kinds = ["code" if head in _NAMED else "prose" for head in table.heads]
        body = markdown.table(table.heads, table.rows, *kinds)
        more = table.total - len(table.rows)
        left = f"\n\n… and {more:,} more: see `-f csv`." if more else ""
        note = f"{table.note[:1].upper()}{table.note[1:]}.\n\n" if table.note else ""
        parts.append(f"### {table.title}\n\n{note}{body or 'None is known.'}{left}")
    return ("\n\n".join(parts) + "\n").encode()


def _csv(frame: pd.DataFrame, request: Request) -> bytes:
    chosen = groups(frame, request.by) if request.by else frame
    safe = chosen.copy(deep=False)
    for name in safe.columns:
        if isinstance(safe[name].dtype, pd.CategoricalDtype | pd.StringDtype):
            safe[name] = safe[name].map(_harmless, na_action="ignore")
    text: str = safe.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%SZ")
    return text.encode()


def _harmless(text: str) -> str:
    """A string that a spreadsheet shows as it is: it takes some first characters for a formula's."""
    shown = words.visible(text)
    return f"'{shown}" if shown.lstrip()[:1] in _FORMULA else shown


def _json(frame: pd.DataFrame, request: Request) -> bytes:
    what, chosen = ("groups", groups(frame, request.by)) if request.by else ("dumps", frame)
    head = json.dumps({"layout": 1, "summary": asdict(summarize(frame))})
    body = chosen.to_json(orient="records", date_format="iso", date_unit="s", double_precision=9)
    return f"{head[:-1]}, {json.dumps(what)}: {body}}}\n".encode()


def _parquet(frame: pd.DataFrame, request: Request) -> bytes:
    buffer = io.BytesIO()
    (groups(frame, request.by) if request.by else frame).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _html(frame: pd.DataFrame, request: Request) -> bytes:
    return dashboard.render(frame, request.folder, request.target).encode()


class Format(NamedTuple):
    """What writes it, and which columns of the table it reads: ``None`` is all."""

    write: Callable[[pd.DataFrame, Request], bytes]
    columns: tuple[str, ...] | None


FORMATS = {
    "table": Format(_text, COLUMNS),
    "csv": Format(_csv, None),
    "parquet": Format(_parquet, None),
    "json": Format(_json, None),
    "markdown": Format(_markdown, COLUMNS),
    "html": Format(_html, dashboard.COLUMNS),
}

"""The report as one HTML file: no script, no network, light and dark, and it prints."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from mftriage.model import Triage
from mftriage.render import words
from mftriage.render.dimm import part
from mftriage.render.hardware import corrected_line, error_rows, history_line, record_facts
from mftriage.render.pagemap import LINE, PageMap, page_map

# Rows of one table, and records in full.  The JSON has everything.
_ROWS = 200
_RECORDS = 40

_CELL_HEIGHT = 22
_WIDTH = 640


class Box(NamedTuple):
    """A rectangle of the page's picture, in the units of its viewBox."""

    kind: str
    x: float
    y: int
    width: float


class Picture(NamedTuple):
    """The page as rows of cache lines."""

    width: int
    height: int
    row_height: int
    columns: list[float]
    rows: list[tuple[int, str]]
    boxes: list[Box]
    caption: str


class Dot(NamedTuple):
    """A step of the timeline, at ``x`` per mille of its length."""

    kind: str
    x: float


def render(triage: Triage, *, color: bool = False, width: int = 100) -> str:
    """Return ``triage`` as one self-contained HTML file; the options mean nothing here."""
    css = style()
    steps = words.steps(triage)
    return template().render(
        t=triage,
        words=words,
        css=Markup(css),
        digest=digest(css),
        heading=words.VERDICTS[triage.verdict.kind],
        steps=steps,
        dots=_dots(steps),
        picture=_picture(page_map(triage)),
        part=part(triage),
        errors=error_rows(triage),
        record_facts=record_facts,
        corrected_line=corrected_line,
        history_line=history_line,
        with_commands=_with_commands,
        most=_ROWS,
        most_records=_RECORDS,
    )


@lru_cache
def template() -> Template:
    """The page's template, ready to be filled: to make it so takes longer than to fill it."""
    return environment("mftriage.render").get_template("report.html.jinja")


@lru_cache
def environment(package: str) -> Environment:
    """Return the environment for the templates of a package: it escapes all that it prints."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )


def _shown(value: object) -> object:
    """Spell out control characters in everything that the template prints."""
    return words.visible(value) if type(value) is str else value


@lru_cache
def style() -> str:
    """Return the style sheet."""
    return files("mftriage.render").joinpath("templates/report.css").read_text("utf-8")


def digest(inline: str) -> str:
    """Return the hash of a style sheet or script for the policy that allows no other."""
    return base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def _with_commands(text: str) -> list[tuple[bool, str]]:
    """Split a sentence at its back-ticks: whether a piece is a command, and the piece."""
    parts = text.split("`")
    if not len(parts) % 2:  # one that has no partner
        return [(False, text)]
    return [(bool(at % 2), piece) for at, piece in enumerate(parts) if piece]


def _picture(inside: PageMap | None) -> Picture | None:
    if inside is None:
        return None
    # 4 KiB make 4 rows of 16 lines, 64 KiB make 16 rows of 64.
    across = 16 if inside.page_size < 16384 else 64
    per_row = across * LINE
    scale = _WIDTH / per_row

    def boxes(kind: str, start: int, end: int) -> list[Box]:
        spans = (
            (row, max(start, row * per_row), min(end, (row + 1) * per_row))
            for row in range(start // per_row, (end - 1) // per_row + 1)
        )
        return [
            Box(kind, (left - row * per_row) * scale, row * _CELL_HEIGHT, (right - left) * scale)
            for row, left, right in spans
        ]

    drawn = boxes("bad", inside.bad, inside.bad + LINE)
    caption = f"Bad cache line: bytes {_span(inside.bad, inside.bad + LINE)}."
    if inside.start is not None and inside.end is not None:
        object_ = inside.start, inside.end
        drawn = [*boxes("object", *object_), *drawn, *boxes("edge", *object_)]
        caption += f" Object: bytes {_span(*object_)}."
    rows = inside.page_size // per_row
    return Picture(
        width=_WIDTH,
        height=rows * _CELL_HEIGHT,
        row_height=_CELL_HEIGHT,
        columns=[column * _WIDTH / across for column in range(1, across)],
        rows=[(row * _CELL_HEIGHT, f"{row * per_row:#05x}") for row in range(rows)],
        boxes=drawn,
        caption=caption,
    )


def _span(start: int, end: int) -> str:
    return f"{start:#x} to {end - 1:#x}"


def _dots(steps: list[words.Step]) -> list[Dot]:
    """Place the steps on a line to scale; none if there is no length of time to show."""
    times = [step.seconds for step in steps if step.seconds is not None]
    if not times or max(times) == min(times):
        return []
    first, length = min(times), max(times) - min(times)
    return [
        Dot(step.kind, 1000 * (step.seconds - first) / length)
        for step in steps[:_ROWS]
        if step.seconds is not None
    ]

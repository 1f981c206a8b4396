"""The dashboard: one HTML file that needs nothing else, of the family of the report.

The figures and charts are written out; the table of dumps is data, which the page's own script
sorts and filters.  Without scripts its newest rows are there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from mftriage import __version__
from mftriage.fleet import phrases
from mftriage.fleet.row import BLAMED
from mftriage.fleet.summary import COLUMNS as FIGURES
from mftriage.fleet.summary import KINDS, Summary, groups, moment, summarize
from mftriage.render import html, words

MOST = 20_000
"""Dumps of a fleet whose dashboard has them all; of a larger one it has a selection."""
NEWEST = 5_000
"""Dumps that the dashboard of a larger fleet has: the newest that blame memory."""

_PAGE = 50
_TOP = 8
_WEEKS, _FEWEST = 104, 12  # of the chart
_TEXT = (
    *("host", "source", "verdict", "confidence", "summary", "reason", "status"),
    *("dimm", "dimm_label", "dimm_locator", "pfn", "owner", "slab_cache", "kernel", "signature"),
    "crash_site",
)
COLUMNS = tuple(dict.fromkeys((*FIGURES, "key", *_TEXT)))
"""What the dashboard reads of the table."""
_SAFE_KEY = re.compile(r"[0-9A-Za-z_-]{3,200}")


class Bar(NamedTuple):
    """A column of a chart: its label, and the heights of its parts in per mille of the chart."""

    label: str
    counts: tuple[int, int]
    lower: float
    upper: float


class Chart(NamedTuple):
    """Columns in two parts, the value of the whole height, and what a reader is told of it."""

    bars: list[Bar]
    top: int
    description: str


def render(frame: pd.DataFrame, folder: Path, target: Path | None) -> str:
    """Return the dashboard of a table that has at least ``COLUMNS``.

    Args:
        frame: as ``load`` gives it.
        folder: the batch's folder, where the reports are.
        target: the file that the page will be; in ``folder``, it links to the reports.
    """
    summary = summarize(frame)
    dumps = frame[frame["status"] != "skipped"]
    shown = dumps if len(dumps) <= MOST else _selection(dumps)
    shown = shown.sort_values("crash_time", ascending=False, na_position="last", kind="stable")
    links = _links(folder, target)
    rows = _rows(shown, folder if links is not None else None)
    style, script = _asset("dashboard.css"), _asset("dashboard.js")
    css = html.style() + style
    return (
        html.environment("mftriage.fleet")
        .get_template("dashboard.html.jinja")
        .render(
            s=summary,
            phrases=phrases,
            words=words,
            css=Markup(css),
            css_digest=html.digest(css),
            script=Markup(script),
            script_digest=html.digest(script),
            version=__version__,
            heading=_heading(summary),
            kinds=[(kind, words.VERDICTS[kind], summary.verdicts[kind]) for kind in KINDS if kind in summary.verdicts],
            trend=_trend(frame),
            delays=_delays(summary),
            tops=_tops(frame),
            offenders=phrases.offenders(frame, _TOP),
            total=len(dumps),
            many=len(shown),
            rows=[{name: column[i] for name, column in rows.items()} for i in range(min(len(shown), _PAGE))],
            links=links,
            data=Markup(_embedded({"page": _PAGE, "links": links, "kinds": _kinds(), "rows": _packed(rows)})),
            problems=frame.attrs.get("problems", []),
        )
    )  # fmt: skip


def _heading(summary: Summary) -> tuple[str, str]:
    """The page's first sentence, and its tone."""
    if not summary.analysed:
        return "No dump has been analysed yet.", "unknown"
    whole = "1 dump" if summary.analysed == 1 else f"{summary.analysed:,} dumps"
    on = f", on {words.count(summary.memory_hosts, 'host')}" if summary.memory_hosts else ""
    if summary.memory:
        return f"Memory is blamed for {summary.memory:,} of {whole}{on}.", "bad"
    if summary.possible:
        return f"Memory may be to blame for {summary.possible:,} of {whole}{on}.", "warn"
    return f"Memory is blamed for none of {whole}.", "calm"


def _selection(frame: pd.DataFrame) -> pd.DataFrame:
    blamed = frame[frame["verdict"].isin(BLAMED)]
    return blamed.sort_values("crash_time", ascending=False).head(NEWEST)


def _trend(frame: pd.DataFrame) -> Chart | None:
    """Memory's crashes by week, without a gap where there was none."""
    weeks = groups(frame, "week").set_index("week")
    if weeks.empty:
        return None
    last = pd.Timestamp(weeks.index.max())
    many = (last - pd.Timestamp(weeks.index.min())).days // 7 + 1
    days = pd.date_range(end=last, periods=min(max(many, _FEWEST), _WEEKS), freq="7D")
    counts = weeks[["memory", "possible"]].reindex(days.strftime("%Y-%m-%d"), fill_value=0)
    bars = [(str(day), int(row.memory), int(row.possible)) for day, row in counts.iterrows()]
    worst = max(bars, key=lambda bar: bar[1] + bar[2])
    told = f"{words.count(len(bars), 'week')} from {bars[0][0]}; most, {worst[1] + worst[2]}, in the week of {worst[0]}."
    return _chart(bars, told)


def _delays(summary: Summary) -> Chart | None:
    told = phrases.delays(summary)
    return _chart(
        list(summary.histogram), f"Later crashes: {told}." if told else "No crash came later."
    )


def _chart(bars: list[tuple[str, int, int]], told: str) -> Chart | None:
    top = max(lower + upper for _, lower, upper in bars)
    if not top:
        return None
    scaled = [Bar(label, (a, b), 1000 * a / top, 1000 * b / top) for label, a, b in bars]
    return Chart(scaled, top, told)


def _tops(frame: pd.DataFrame) -> list[tuple[str, str, list[tuple[str, int, int, float]]]]:
    """The worst of each sort, as (title, filter, [(name, memory, possible, share of the worst)])."""
    made = []
    for by, title in (("dimm", "DIMMs"), ("host", "Hosts"), ("slab_cache", "Slab caches")):
        found = groups(frame, by)
        worst = found[found["rank"].notna()].head(_TOP)
        most = int((worst["memory"] + worst["possible"]).max()) if len(worst) else 1
        rows = [
            (
                str(r[by]),
                int(r["memory"]),
                int(r["possible"]),
                100 * (r["memory"] + r["possible"]) / most,
            )
            for r in worst.to_dict("records")
        ]
        made.append((title, by, rows))
    return made


def _rows(frame: pd.DataFrame, reports: Path | None) -> dict[str, list[Any]]:
    """The columns of the table of dumps."""
    times = [None if pd.isna(time) else int(time.timestamp()) for time in frame["crash_time"]]
    plain = {
        name: [
            None if pd.isna(value) else words.visible(str(value))
            for value in frame[name].astype("object")
        ]
        for name in _TEXT
    }
    names = ("dimm_locator", "dimm_label", "dimm", "slab_cache", "owner")
    memory = [
        next(filter(None, known), None) for known in zip(*(plain[n] for n in names), strict=True)
    ]
    owners = [
        cache or owner for cache, owner in zip(plain["slab_cache"], plain["owner"], strict=True)
    ]
    pages = [
        pfn and ", ".join(w for w in (f"page {pfn}", owner != shown and owner) if w)
        for pfn, owner, shown in zip(plain["pfn"], owners, memory, strict=True)
    ]
    delays = [None if pd.isna(d) else float(d) for d in frame["delay_seconds"]]
    keys = [str(key) for key in frame["key"]]
    there = _reports(reports, keys) if reports is not None else set()
    return {
        "time": times,
        "shown": [(moment(time) or "").replace("T", " ")[:16] for time in frame["crash_time"]],
        **plain,
        "memory": memory,
        "page": pages,
        "delay": delays,
        "lived": [None if d is None else words.duration(d) for d in delays],
        "injected": [bool(value) if not pd.isna(value) else False for value in frame["injected"]],
        "link": [f"{key[:2]}/{key}.html" if key in there else None for key in keys],
    }


def _reports(folder: Path, keys: Iterable[str]) -> set[str]:
    """The keys that have a page."""
    wanted: dict[str, list[str]] = {}
    for key in keys:
        if _SAFE_KEY.fullmatch(key):
            wanted.setdefault(key[:2], []).append(key)
    there: set[str] = set()
    for name, of_folder in wanted.items():
        try:
            have = set(os.listdir(folder / "reports" / name))
        except OSError:
            continue
        there.update(key for key in of_folder if f"{key}.html" in have)
    return there


def _links(folder: Path, target: Path | None) -> str | None:
    """How to get from the page to the reports; ``None`` where it lies elsewhere and may be moved."""
    if target is None:
        return None
    at, root = target.resolve().parent, folder.resolve()
    if at != root and root not in at.parents:
        return None
    return os.path.relpath(root / "reports", at).replace(os.sep, "/") + "/"


def _kinds() -> dict[str, list[str]]:
    return {kind: [heading.title, heading.tone] for kind, heading in words.VERDICTS.items()}


def _packed(rows: dict[str, list[Any]]) -> dict[str, Any]:
    """Columns of few different strings as words and their numbers."""
    made: dict[str, Any] = {}
    for name, values in rows.items():
        distinct = list(dict.fromkeys(values))
        strings = all(value is None or isinstance(value, str) for value in distinct)
        if strings and len(distinct) <= len(values) // 2:
            at = {word: number for number, word in enumerate(distinct)}
            made[name] = {"words": distinct, "at": [at[value] for value in values]}
        else:
            made[name] = values
    return made


def _embedded(data: object) -> str:
    """JSON that can stand in a script element: nothing in it ends that, or starts a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@lru_cache
def _asset(name: str) -> str:
    return files("mftriage.fleet").joinpath("templates", name).read_text("utf-8")

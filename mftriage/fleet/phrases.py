"""What the fleet's reports for people say, the same in every format.  Nothing here escapes anything."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from mftriage.fleet.summary import BY, KINDS, Summary, again, groups, moment, repeated
from mftriage.render import words

FEW = 20
"""Of fewer values no 95th percentile is told."""


class Table(NamedTuple):
    """A titled table; ``total`` counts its rows before it was cut.  ``note`` says what is in it."""

    title: str
    note: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]
    total: int


def headline(summary: Summary) -> list[tuple[str, str]]:
    """Return the figures, label by label."""
    s = summary
    read = [f"{s.analysed:,} analysed", s.failed and f"{s.failed:,} failed"]
    other = f"; {s.skipped:,} other {'file' if s.skipped == 1 else 'files'}" if s.skipped else ""
    rows = [
        ("dumps", f"{s.dumps:,}: {', '.join(r for r in read if r)}{other}"),
        ("hosts", f"{s.hosts:,}" if s.hosts else "no dump names its host"),
        ("from, to", " to ".join(words.moment(t) for t in (s.first, s.last) if t)),
        *((kind, f"{many:,}") for kind, many in s.verdicts.items()),
        ("memory", memory(s)),
        ("later crashes", caught(s)),
        ("error to crash", delays(s)),
        ("recovered", recovered(s)),
        ("injected", f"{s.injected:,} by tests, counted nowhere else" if s.injected else ""),
    ]
    return [(label, value) for label, value in rows if value]


def memory(summary: Summary) -> str:
    """Return how many crashes memory is blamed for."""
    if not summary.memory + summary.possible:
        return "no crash is blamed on it"
    possible = f", {summary.possible:,} more possibly" if summary.possible else ""
    hosts = f", on {words.count(summary.memory_hosts, 'host')}" if summary.memory_hosts else ""
    return f"{crashes(summary.memory)} blamed on it{possible}{hosts}"


def caught(summary: Summary) -> str:
    """Return what share of the later crashes the sysctl would have stopped at the error."""
    if not summary.judged:
        return f"{summary.later:,}" if summary.later else ""
    share = percent(summary.caught_at_once, summary.judged)
    return (
        f"{summary.later:,}; {words.SYSCTL}=1 would have stopped {summary.caught_at_once:,} of "
        f"{summary.judged:,} ({share}) at the error"
    )


def delays(summary: Summary) -> str:
    """Return how long machines lived on."""
    known = summary.delays
    if known.median is None or known.p95 is None:
        return ""
    most = f", 95% within {words.duration(known.p95)}" if known.count >= FEW else ""
    return f"median {words.duration(known.median)}{most} ({crashes(known.count)})"


def recovered(summary: Summary) -> str:
    """Return how many hosts crashed again."""
    if not summary.recovered_hosts:
        return ""
    return (
        f"{words.count(summary.recovered_hosts, 'host')} had failures that the kernel recovered from; "
        f"{summary.crashed_again:,} crashed for memory in the same boot or later"
    )


def crashes(many: int) -> str:
    """Return "1 crash", "2 crashes"."""
    return f"{many:,} {'crash' if many == 1 else 'crashes'}"


def percent(part: int, whole: int) -> str:
    """Return a share without decimals; what is not all is never called 100%."""
    share = 100 * part / whole
    return f"{min(share, 99) if part < whole else share:.0f}%"


def grouped(frame: pd.DataFrame, by: str, most: int) -> Table:
    """Return the groups, of which the first ``most``."""
    found = groups(frame, by)
    note = "memory and possible: dumps that blame memory, or may; without a rank: never blamed"
    return _groups(found, by, f"By {BY[by]}", "" if by == "week" else note, most)


def offenders(frame: pd.DataFrame, most: int) -> list[Table]:
    """Return who offends again: DIMMs, pages, hosts after a recovered failure; those that are."""
    hosts = again(frame)
    rows: list[tuple[str, ...]] = [
        (str(row.host), f"{row.recovered:,}", f"{row.crashes:,}", day(row.last_seen))
        for row in hosts.head(most).itertuples()
    ]
    made = [
        _groups(
            repeated(frame, "dimm"),
            "dimm",
            "DIMMs that several dumps name",
            "memory is blamed at least once",
            most,
        ),
        _groups(
            repeated(frame, "page"),
            "page",
            "Pages that several dumps name",
            "the same pfn on the same host",
            most,
        ),
        Table(
            "Hosts that crashed again",
            "for memory, after the kernel had recovered from a failure",
            ("host", "recovered", "crashes since", "last"),
            rows,
            len(hosts),
        ),
    ]
    return [table for table in made if table.rows]


def _groups(found: pd.DataFrame, by: str, title: str, note: str, most: int) -> Table:
    tested = bool(found["injected"].any())
    heads = ("#", BY.get(by, by), "dumps", "memory", "possible", *(["injected"] if tested else []))
    heads += ("hosts", "first seen", "last seen", "verdicts")
    rows = []
    for row in found.head(most).to_dict("records"):
        counts = [f"{row['dumps']:,}", f"{row['memory']:,}", f"{row['possible']:,}"]
        counts += [f"{row['injected']:,}"] if tested else []
        counts += [f"{row['hosts']:,}", day(row["first_seen"]), day(row["last_seen"])]
        rank = "" if pd.isna(row["rank"]) else str(row["rank"])
        rows.append((rank, str(row[by]), *counts, verdicts(row)))
    return Table(title, note, heads, rows, len(found))


def verdicts(row: Any) -> str:
    """Return the counts of a group's verdicts, the most frequent first."""
    counts = sorted(((row[kind], kind) for kind in KINDS if row[kind]), reverse=True)
    return ", ".join(f"{many:,} {kind}" for many, kind in counts)


def day(time: Any) -> str:
    """Return a timestamp's day, or nothing."""
    return (moment(time) or "")[:10]

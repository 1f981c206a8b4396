"""What a fleet's table says: counts, groups, and who offends again.

Blame is dear: what a test injected counts for nothing, and neither does a crash that has another
cause, however often it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import pandas as pd

from mftriage.fleet.row import BLAMED, LATER
from mftriage.model import VerdictKind

__all__ = ["BY", "COLUMNS", "Delays", "Summary", "again", "groups", "repeated", "summarize"]

KINDS: tuple[VerdictKind, ...] = get_args(VerdictKind)
POSSIBLE: VerdictKind = "possible-delayed-crash"

BY: dict[str, str] = {
    "dimm": "DIMM",
    "host": "host",
    "slab_cache": "slab cache",
    "owner": "owner of the page",
    "kernel": "kernel",
    "signature": "signature",
    "cause": "cause",
    "week": "week",
}
"""What a fleet can be grouped by: a column of the table, or ``week``, and its name for people."""

COLUMNS = (
    *("status", "verdict", "host", "crash_time", "injected", "dimm", "slab_cache", "owner", "kernel"),
    *("signature", "cause", "pfn", "delay_seconds", "caught_at_once", "recovered_before"),
)  # fmt: skip
"""What ``summarize`` and ``groups`` read of the table."""

_COUNTED = ["verdict", "injected", "host", "crash_time"]  # of each group
_BOUNDS = (0.01, 1.0, 60.0, 3600.0, 86400.0)
_SPANS = ("under 10 ms", "under 1 s", "under 1 min", "under 1 h", "under 1 d", "1 d or more")


@dataclass(frozen=True, kw_only=True)
class Delays:
    """Seconds from the error to the crash: how many are known, their median and 95th percentile."""

    count: int
    median: float | None
    p95: float | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A fleet in figures.  What a test injected is in ``dumps`` and ``injected`` alone.

    ``skipped`` are files that are no dumps, and none of ``dumps``.
    ``memory`` counts the dumps that blame memory, ``possible`` those that may; ``later`` those of
    both whose machine went on after the error, of which ``judged`` have an owner, and
    ``caught_at_once`` the sysctl would have stopped at the error.  ``recovered_hosts`` had failures that the kernel recovered from,
    ``crashed_again`` of them crashed for memory in the same boot or later.
    ``histogram`` has (span, stopped at once, crashed later).
    """

    dumps: int
    analysed: int
    failed: int
    skipped: int
    hosts: int
    first: str | None
    last: str | None
    verdicts: Mapping[str, int]
    memory: int
    possible: int
    memory_hosts: int
    injected: int
    later: int
    judged: int
    caught_at_once: int
    delays: Delays
    recovered_hosts: int
    crashed_again: int
    histogram: tuple[tuple[str, int, int], ...]


def summarize(frame: pd.DataFrame) -> Summary:
    """Return the figures of a table that has at least ``COLUMNS``."""
    status = frame["status"].value_counts()
    real = _real(frame)
    kinds = real["verdict"].value_counts()
    blamed = real[real["verdict"].isin(BLAMED)]
    later = blamed[blamed["verdict"].isin(LATER)]
    judged = later["caught_at_once"].dropna()
    delays = later["delay_seconds"].dropna()
    times = frame["crash_time"].dropna()
    return Summary(
        dumps=len(frame) - int(status.get("skipped", 0)),
        analysed=int(status.get("ok", 0)),
        failed=int(status.get("failed", 0)),
        skipped=int(status.get("skipped", 0)),
        hosts=int(frame["host"].nunique()),
        first=moment(times.min()) if len(times) else None,
        last=moment(times.max()) if len(times) else None,
        verdicts={kind: int(kinds.get(kind, 0)) for kind in KINDS if kinds.get(kind, 0)},
        memory=len(blamed) - int(kinds.get(POSSIBLE, 0)),
        possible=int(kinds.get(POSSIBLE, 0)),
        memory_hosts=int(blamed["host"].nunique()),
        injected=int(_injected(frame).sum()),
        later=len(later),
        judged=len(judged),
        caught_at_once=int(judged.sum()),
        delays=Delays(
            count=len(delays),
            median=float(delays.median()) if len(delays) else None,
            p95=float(delays.quantile(0.95)) if len(delays) else None,
        ),
        recovered_hosts=int(real.loc[real["recovered_before"].gt(0).fillna(False), "host"].nunique()),
        crashed_again=len(again(frame)),
        histogram=_histogram(blamed),
    )  # fmt: skip


def groups(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return one row a group, the worst offender first; of weeks the last, without ranks.

    Args:
        frame: a table that has at least ``COLUMNS``.
        by: a key of ``BY``.

    Its columns: the group's name (called ``by``), ``rank`` (null where memory is not blamed
    once), ``dumps``, ``memory``, ``possible``, ``injected``, ``hosts``, ``first_seen``,
    ``last_seen``, and the count of each kind of verdict.  ``dumps`` and the verdicts leave out
    what a test injected.  Dumps of which the group is not known are in none.
    """
    named = frame["verdict"].notna()
    keys = _weeks(frame["crash_time"]) if by == "week" else frame[by]
    found = _grouped(frame.loc[named, _COUNTED], keys[named], by)
    if by != "week":
        return found
    found["rank"] = pd.Series(pd.NA, found.index, dtype="Int64")
    return found.sort_values("week", ascending=False, ignore_index=True)


def repeated(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the groups by ``dimm`` or ``page`` that several dumps name, and memory is blamed for.

    A page is a pfn of a host.
    """
    if by == "page":
        known = frame["host"].notna() & frame["pfn"].notna() & frame["verdict"].notna()
        part = frame.loc[known, [*_COUNTED, "pfn"]]
        keys = part["host"].astype("string") + " " + part["pfn"]
        # Few pages are named twice; only those are worth the grouping.
        twice = keys.duplicated(keep=False)
        found = _grouped(part[twice], keys[twice], by)
    else:
        found = groups(frame, by)
    return found[(found["dumps"] > 1) & found["rank"].notna()]


def again(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the hosts that crashed for memory after the kernel had recovered from a failure of it.

    Its columns: ``host``, ``recovered`` (failures), ``crashes`` (dumps that blame memory since),
    ``last_seen`` (the last of them), in that order of severity.
    """
    real = _real(frame)
    real = real[real["host"].notna()]
    recovered = real[real["recovered_before"].gt(0).fillna(False)]
    since = recovered.groupby("host", observed=True)["crash_time"].min()
    count = recovered.groupby("host", observed=True)["recovered_before"].sum()
    crashes = real[real["verdict"].isin(BLAMED) & real["host"].isin(since.index)]
    crashes = crashes.join(since.rename("since"), on="host")
    after = crashes["recovered_before"].gt(0).fillna(False)
    after |= crashes["crash_time"] > crashes["since"]
    grouped = crashes[after].groupby("host", observed=True)
    made = pd.DataFrame({"crashes": grouped.size(), "last_seen": grouped["crash_time"].max()})
    made.insert(0, "recovered", count.reindex(made.index))
    made = made.rename_axis("host").reset_index()
    made["host"] = made["host"].astype("string")
    return made.sort_values(
        ["crashes", "recovered", "host"], ascending=[False, False, True], ignore_index=True
    )


def moment(time: Any) -> str | None:
    """Return a timestamp as the JSON has it ("2026-11-24T03:12:41Z"); ``None`` for none."""
    return None if pd.isna(time) else time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _injected(frame: pd.DataFrame) -> pd.Series[bool]:
    return frame["injected"].fillna(False).astype(bool)


def _real(frame: pd.DataFrame) -> pd.DataFrame:
    """The dumps that count: analysed, and nothing that a test made; what is counted of them."""
    counted = frame[[*_COUNTED, "delay_seconds", "caught_at_once", "recovered_before"]]
    return counted[frame["verdict"].notna() & ~_injected(frame)]


def _grouped(frame: pd.DataFrame, keys: pd.Series[Any], by: str) -> pd.DataFrame:
    numbers, names = pd.factorize(keys)  # what is not known is -1
    frame = frame[numbers >= 0]
    key = pd.Series(numbers[numbers >= 0], frame.index)
    every = pd.RangeIndex(len(names))
    tested = _injected(frame)
    real = frame[~tested]
    ours = real.groupby(key[~tested])
    # What a test did says nothing of when a DIMM went bad; where there is nothing else, it is told.
    seen = _seen(real, key[~tested]).reindex(every).fillna(_seen(frame, key))
    kinds = ours["verdict"].value_counts().unstack(fill_value=0)
    kinds.columns = kinds.columns.astype(str)
    kinds = kinds.reindex(index=every, columns=list(KINDS), fill_value=0)
    made = pd.DataFrame(
        {
            by: pd.Series(names, every).astype("string"),
            "dumps": kinds.sum(axis=1),
            "memory": kinds[[k for k in KINDS if k in BLAMED and k != POSSIBLE]].sum(axis=1),
            "possible": kinds[POSSIBLE],
            "injected": key[tested].value_counts().reindex(every, fill_value=0),
            "hosts": ours["host"].nunique().reindex(every, fill_value=0),
            "first_seen": seen["min"],
            "last_seen": seen["max"],
        }
    ).join(kinds)
    made = made.sort_values(
        ["memory", "possible", "last_seen", by],
        ascending=[False, False, False, True],
        ignore_index=True,
    )
    blamed = made["memory"] + made["possible"] > 0
    rank = pd.Series(range(1, len(made) + 1), dtype="Int64")
    made.insert(0, "rank", rank.where(blamed))
    return made


def _seen(frame: pd.DataFrame, key: pd.Series[Any]) -> pd.DataFrame:
    return frame.groupby(key)["crash_time"].agg(["min", "max"])


def _weeks(times: pd.Series[Any]) -> pd.Series[Any]:
    """The Monday of each time's week, in UTC."""
    days = times.dt.normalize()
    mondays: pd.Series[Any] = days - pd.to_timedelta(days.dt.day_of_week, unit="D")
    named: pd.Series[Any] = mondays.dt.strftime("%Y-%m-%d")
    return named


def _histogram(blamed: pd.DataFrame) -> tuple[tuple[str, int, int], ...]:
    edges = [float("-inf"), *_BOUNDS, float("inf")]
    delays = blamed["delay_seconds"].astype("float64")
    spans = pd.cut(delays, edges, labels=list(_SPANS), right=False)
    later = blamed["verdict"].isin(LATER)
    at_once, after = spans[~later].value_counts(), spans[later].value_counts()
    return tuple((span, int(at_once.get(span, 0)), int(after.get(span, 0))) for span in _SPANS)

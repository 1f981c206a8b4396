"""``table/part-*.parquet``: the results that were there at the last compaction, read in a moment.

The results are what counts: a row of a part whose result has gone is gone, one whose result is
newer is read anew.  So that a million files need not be looked at for it, a part says which
folders of results it has taken in, by the time of their last change.  A folder that has parts
alone, without any results, is a table, too.

A part is written aside, then renamed, and only then do those go that it replaces: at no time is
a row in none.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mftriage.fleet.layout import LAYOUT, write_whole
from mftriage.fleet.results import SCHEMA, STAMP, folders, found, rows

_NAME = re.compile(r"part-(\d+)\.parquet")
_META = b"mftriage"
# A folder that changed this short before it was read may change again without its time doing so.
_SETTLED_NS = 2_000_000_000


class _DamagedError(Exception):
    """A part that can't be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path


class _Part(NamedTuple):
    path: Path
    meta: dict[str, Any]


def read(folder: Path, columns: Iterable[str], problems: list[str]) -> pa.Table:
    """Return the columns of all dumps, each source once: its last result.

    Args:
        folder: the batch's folder.
        columns: names of ``SCHEMA``.
        problems: takes a sentence for each file that can't be read.
    """
    return _read(folder, list(columns), problems)[0]


def compact(folder: Path) -> list[str]:
    """Write all rows into one part, and remove those that it replaces.

    Returns a sentence for each file that can't be read.  Raises ``OSError`` where the folder
    can't be written.
    """
    problems: list[str] = []
    started = time.time_ns()
    table, replaced, taken = _read(folder, SCHEMA.names, problems)
    settled = {name: at for name, at in taken.items() if at < started - _SETTLED_NS}
    meta = {"layout": LAYOUT, "whole": True, "folders": settled}
    number = max((_number(path) for path in _paths(folder)), default=0) + 1
    _write(table, meta, folder / "table" / f"part-{number:06}.parquet")
    for path in replaced:
        path.unlink(missing_ok=True)
    return problems


def _read(
    folder: Path, columns: list[str], problems: list[str]
) -> tuple[pa.Table, list[Path], dict[str, int]]:
    """The rows, the parts that have nothing else, and the folders of results that were taken in."""
    damaged: set[Path] = set()
    while True:
        try:
            table, parts, taken = _attempted(folder, columns, problems, damaged)
            # Where there are no results, one that can't be read may be all that there is.
            useless = damaged if taken else ()
            return table, [*(part.path for part in parts), *useless], taken
        except _DamagedError as error:  # what it had taken in is read anew
            damaged.add(error.path)
            problems.append(f"{error.path}: {error.__cause__}")


def _attempted(
    folder: Path, columns: list[str], problems: list[str], damaged: Collection[Path]
) -> tuple[pa.Table, list[_Part], dict[str, int]]:
    results = folder / "results"
    paths = _paths(folder)
    parts = [_opened(path) for path in paths if path not in damaged]
    taken = folders(results)
    # A part that stands alone has all that was there.  Several are left by a compaction that was
    # cut short, or were brought together by hand: all is looked through.
    whole = parts[0].meta if len(parts) == len(paths) == 1 and parts[0].meta.get("whole") else None
    known = whole["folders"] if whole else {}
    if whole and (known == taken or not results.is_dir()):
        return _stacked(parts, columns), parts, taken
    kept = {name for name, at in taken.items() if known.get(name) == at}
    files = {file.key: file for file in found(results, taken.keys() - kept)}
    wanted = list(dict.fromkeys([*columns, "key", "source", "finished", STAMP]))
    if parts:
        had = _stacked(parts, wanted)
        there = [
            not results.is_dir() or key[:2] in kept or (key in files and files[key].stamp == stamp)
            for key, stamp in zip(had["key"].to_pylist(), had[STAMP].to_pylist(), strict=True)
        ]
        had = had.filter(pa.array(there, pa.bool_()))
        for key in had["key"].to_pylist():
            files.pop(key, None)
    else:
        had = SCHEMA.empty_table().select(wanted)
    fresh = rows(files.values(), problems)
    table = pa.concat_tables([had, fresh.select(wanted)])
    return _last_of_each(table).select(columns), parts, taken


def _last_of_each(table: pa.Table) -> pa.Table:
    """Each source once: the row that was finished last, of equals the one that stands last."""
    source = pc.coalesce(table["source"], table["key"])
    if pc.count_distinct(source).as_py() == table.num_rows:
        return table
    never = pa.scalar(0, table["finished"].type)
    order = pc.sort_indices(pc.fill_null(table["finished"], never))  # stable
    lasts = pa.table({"source": source.take(order), "at": order}).group_by(
        "source", use_threads=False
    )
    at = lasts.aggregate([("at", "last")])["at_last"]
    return table.take(at.take(pc.sort_indices(at)))


def _stacked(parts: list[_Part], columns: list[str]) -> pa.Table:
    """The columns of all parts; one that a part of an older mftriage lacks is null."""
    return pa.concat_tables([_columns(part.path, columns) for part in parts])


def _columns(path: Path, columns: list[str]) -> pa.Table:
    wanted = pa.schema([SCHEMA.field(name) for name in columns])
    try:
        have = set(pq.read_schema(path).names)
        table = pq.read_table(path, columns=[name for name in columns if name in have])
        arrays = [
            table[field.name].cast(field.type)
            if field.name in have
            else pa.nulls(table.num_rows, field.type)
            for field in wanted
        ]
        return pa.table(arrays, schema=wanted)
    except (OSError, pa.ArrowException) as error:
        raise _DamagedError(path) from error


def _opened(path: Path) -> _Part:
    try:
        meta = json.loads((pq.read_schema(path).metadata or {}).get(_META, b"{}"))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _DamagedError(path) from error
    return _Part(path, meta if isinstance(meta, dict) else {})


def _write(table: pa.Table, meta: dict[str, Any], path: Path) -> None:
    noted = table.replace_schema_metadata({_META: json.dumps(meta).encode()})
    words = [f.name for f in SCHEMA if pa.types.is_dictionary(f.type)]
    buffer = pa.BufferOutputStream()
    pq.write_table(noted, buffer, compression="zstd", use_dictionary=words)
    write_whole(path, buffer.getvalue().to_pybytes())


def _paths(folder: Path) -> list[Path]:
    return sorted(
        (p for p in (folder / "table").glob("part-*.parquet") if _NAME.fullmatch(p.name)),
        key=_number,
    )


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0

"""The results of a batch, one JSON file a dump, as rows of an Arrow table.

A result is ``results/KK/KEY.json``, written aside and renamed, so that the time of its folder
changes with it.  What a file holds is checked value by value: one that is damaged loses that
value, or its row, and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mftriage.fleet.layout import LAYOUT
from mftriage.fleet.schema import COLUMNS, TIME, Column, Dtype
from mftriage.text import clean, parsed_utc

STAMP = "_stamp"
"""Column of a part that no table shows: when the result was written (st_mtime_ns)."""

_DAY = timedelta(days=1)
_EARLIEST, _LATEST = datetime(2005, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_ARROW: dict[Dtype, pa.DataType] = {
    "category": pa.dictionary(pa.int32(), pa.string()),
    "string": pa.string(),
    "Int64": pa.int64(),
    "Float64": pa.float64(),
    "boolean": pa.bool_(),
    TIME: pa.timestamp("us", "UTC"),
}
SCHEMA = pa.schema([*((c.name, _ARROW[c.dtype]) for c in COLUMNS), (STAMP, pa.int64())])


class Found(NamedTuple):
    """A result's file: the dump's key, when it was written, and where it is."""

    key: str
    stamp: int
    path: str


def folders(results: Path) -> dict[str, int]:
    """Return the folders of results, each with the time of its last change (st_mtime_ns)."""
    try:
        with os.scandir(results) as entries:
            return {e.name: e.stat().st_mtime_ns for e in entries if e.is_dir()}
    except FileNotFoundError:
        return {}


def found(results: Path, names: Iterable[str]) -> Iterator[Found]:
    """Yield the results in the folders of these names, in their order."""
    for name in sorted(names):
        # A batch may be at work: what is gone by now is no result any more.
        with suppress(FileNotFoundError), os.scandir(results / name) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        yield Found(entry.name[:-5], entry.stat().st_mtime_ns, entry.path)


def rows(files: Iterable[Found], problems: list[str]) -> pa.Table:
    """Return the results as a table; what can't be read is a sentence in ``problems``."""
    read: list[tuple[Found, Mapping[str, Any], Mapping[str, Any]]] = []
    for file in files:
        try:
            with open(file.path, "rb") as stream:
                record = json.load(stream)
            if not isinstance(record, dict) or record.get("layout") != LAYOUT:
                raise ValueError(f"is no result of layout {LAYOUT}")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            problems.append(clean(f"{file.path}: {error}", 500))
            continue
        row = record.get("row")
        read.append((file, _flat(file, record), row if isinstance(row, dict) else {}))
    values: dict[str, list[Any]] = {
        column.name: [
            _value(column, (record if column.source == "record" else row).get(column.name))
            for _, record, row in read
        ]
        for column in COLUMNS
    }
    # A clock that was ahead of the analysis was wrong.
    values["crash_time"] = [
        None if crash and finished and crash > finished + _DAY else crash
        for crash, finished in zip(values["crash_time"], values["finished"], strict=True)
    ]
    values[STAMP] = [file.stamp for file, _, _ in read]
    arrays = [pa.array(values[field.name], _plain(field.type)) for field in SCHEMA]
    return pa.table(arrays, names=SCHEMA.names).cast(SCHEMA)


def _flat(file: Found, record: dict[str, Any]) -> dict[str, Any]:
    """The batch's part of the row; the file's name is its key."""
    identity = record.get("identity")
    size = identity.get("size_bytes") if isinstance(identity, dict) else None
    return {**record, "key": file.key, "size_bytes": size}


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _value(column: Column, value: object) -> object:
    """The value in the column's type; ``None`` where it is of another."""
    if value is None:
        return None
    match column.dtype:
        case "category" | "string":
            return clean(value) if isinstance(value, str) else None
        case "Int64":
            return value if type(value) is int and -(2**63) <= value < 2**63 else None
        case "Float64":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            return float(value) if abs(value) < 1e300 else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case _:
            return _moment(value)


def _moment(value: object) -> datetime | None:
    """A time, if the clock can have been right."""
    moment = parsed_utc(value) if isinstance(value, str) else None
    return moment if moment is not None and _EARLIEST <= moment < _LATEST else None

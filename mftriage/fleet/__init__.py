"""The fleet: a folder of results as one table, its groupings and its dashboard.

Importing this costs nothing: pandas and pyarrow are loaded by what uses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mftriage.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["file_name", "load", "render"]

_SUFFIXES = {"table": "txt", "markdown": "md"}


def load(folder: Path | str, columns: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the results of a batch's folder as a table, one row a dump (docs/fleet-schema.md).

    Args:
        folder: what ``mftriage batch`` wrote to.
        columns: those to read; without them all.  A large fleet is read faster by a few.

    ``attrs["problems"]`` of the table has a sentence for each file that can't be read.

    Raises:
        UsageError: the folder has no results, or pandas and pyarrow are not installed.
    """
    frame: pd.DataFrame = _module("table").load(Path(folder), columns)
    return frame


def render(
    folder: Path,
    fmt: str,
    *,
    by: str | None = None,
    width: int = 100,
    target: Path | None = None,
    redact_map: Path | None = None,
) -> tuple[bytes, list[str]]:
    """Return the fleet in a format, and a sentence for each file that can't be read.

    Args:
        folder: what ``mftriage batch`` wrote to.
        fmt: table, csv, parquet, json, markdown or html.
        by: what to group by; html has several groupings of its own.
        width: columns of the terminal, for the table.
        target: the file that it will be, for the links of html.
        redact_map: mask what identifies, with this map (``mftriage.redact``).

    Raises:
        UsageError: as ``load``; there is no such format or grouping.
    """
    output = _module("output")
    made: tuple[bytes, list[str]] = output.render(
        output.Request(folder, by, width, target, redact_map), fmt
    )
    return made


def file_name(fmt: str) -> str:
    """Return what the file of a format is called where only its folder is named."""
    return "index.html" if fmt == "html" else f"fleet.{_SUFFIXES.get(fmt, fmt)}"


def _module(name: str) -> Any:
    try:
        return import_module(f"mftriage.fleet.{name}")
    except ImportError as error:
        raise UsageError(
            f"the fleet's table needs pandas and pyarrow ({error})", "pip install 'mftriage[fleet]'"
        ) from error

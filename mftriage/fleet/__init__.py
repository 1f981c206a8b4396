"""The fleet: a folder of results as one table, its groupings and its dashboard.

Importing this costs nothing: pandas and pyarrow are loaded by what uses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]


def load(folder: Path | str, columns: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the results of a batch's folder as a table, one row a dump (docs/fleet-schema.md).

    Args:
        folder: what ``mftriage batch`` wrote to.
        columns: those to read; without them all.  A large fleet is read faster by a few.

    ``attrs["problems"]`` of the table has a sentence for each file that can't be read.

    Raises:
        UsageError: the folder has no results, or pandas and pyarrow are not installed.
    """
    from mftriage.fleet.table import load as read

    return read(Path(folder), columns)

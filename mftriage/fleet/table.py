"""The fleet's table as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa

from mftriage.errors import UsageError
from mftriage.fleet import parts
from mftriage.fleet.layout import Layout
from mftriage.fleet.schema import COLUMNS, DTYPES

_TYPES = {
    pa.string(): pd.StringDtype(storage="pyarrow"),
    pa.int64(): pd.Int64Dtype(),
    pa.float64(): pd.Float64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


def load(folder: Path, columns: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the table; see ``mftriage.fleet.load``."""
    wanted = [column.name for column in COLUMNS] if columns is None else list(columns)
    for name in wanted:
        if name not in DTYPES:
            raise UsageError(
                f"the fleet's table has no column {name!r}", "see docs/fleet-schema.md"
            )
    if not (folder / "results").is_dir() and not (folder / "table").is_dir():
        raise UsageError(
            f"{str(folder)!r} has no results of a batch", f"mftriage batch SOURCE --out {folder}"
        )
    if (folder / "fleet.json").exists():  # parts that were copied elsewhere have none
        Layout(folder).check()
    problems: list[str] = []
    table = parts.read(folder, wanted, problems).unify_dictionaries()
    frame: pd.DataFrame = table.to_pandas(
        types_mapper=_TYPES.get, self_destruct=True, split_blocks=True
    )
    for name in wanted:
        if DTYPES[name] == "category":  # the names of an empty column have no type of their own
            names = frame[name].cat.categories.astype("str").array
            frame[name] = frame[name].cat.rename_categories(names)
    frame.attrs["problems"] = problems
    return frame

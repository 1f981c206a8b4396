"""The fleet's table without what identifies; rows that a batch has masked already stay as they are."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mftriage.redact import Kind, Redactor

_NAMES: dict[str, Kind] = {"host": "host", "source": "path", "dimm_serial_number": "serial"}
_TEXTS = ("reason", "summary", "panic_message")


def masked(frame: pd.DataFrame, redactor: Redactor) -> pd.DataFrame:
    """Return the table, which has all columns, with tokens for hosts, sources and serial numbers.

    A key, which is a digest of its source's name and could be tried, becomes the source's token.
    """
    columns = [*_NAMES, *_TEXTS, "key", "dimm"]
    rows = [_masked(row, redactor) for row in _plain(frame[columns]).to_dict("records")]
    made = frame.copy(deep=False)
    for name in columns:
        values = pd.Series([row[name] for row in rows], made.index, dtype="string")
        known = isinstance(frame[name].dtype, pd.CategoricalDtype)
        made[name] = values.astype("category") if known else values
    return made


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Strings, and ``None`` where there is none."""
    objects = frame.astype("object")
    return objects.where(objects.notna(), None)


def _masked(row: dict[Any, Any], redactor: Redactor) -> dict[str, str | None]:
    known = {row[name]: kind for name, kind in _NAMES.items() if row[name]}
    tokens = {name: redactor.token(kind, name) for name, kind in known.items()}
    made = {name: row[name] and tokens.get(row[name]) for name in _NAMES}
    texts = dict(zip(_TEXTS, redactor.texts([row[name] for name in _TEXTS], known), strict=True))
    dimm = _dimm(row["dimm"], row["host"], row["dimm_serial_number"], tokens)
    return {**made, **texts, "key": made["source"], "dimm": dimm}


def _dimm(
    dimm: str | None, host: str | None, serial: str | None, tokens: dict[str, str]
) -> str | None:
    """The DIMM's name, as ``row_of`` makes it, with the tokens in it."""
    if dimm and serial and dimm.endswith(serial.strip()):
        return dimm.removesuffix(serial.strip()) + tokens[serial]
    if dimm and host and dimm.startswith(host):
        return tokens[host] + dimm.removeprefix(host)
    return None

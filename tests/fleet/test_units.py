"""Times and sizes as people type them."""

from __future__ import annotations

from datetime import datetime

import pytest

from mftriage.errors import UsageError
from mftriage.fleet.units import duration, moment, size


def test_durations() -> None:
    given = ("7d", "12h", "30m", "600", "0.5s", "2w", "0")
    assert [duration(text) for text in given] == [604800, 43200, 1800, 600, 0.5, 1209600, 0]


def test_moments() -> None:
    assert moment("7d", 1_000_000.0) == 1_000_000 - 604800
    assert moment("2026-11-23T18:00Z", 0.0) == 1795456800
    assert moment("2026-11-23T18:00+02:00", 0.0) == 1795456800 - 7200
    assert moment("2026-11-23", 0.0) == datetime(2026, 11, 23).timestamp()


def test_sizes() -> None:
    assert [size(text) for text in ("2G", "512M", "1.5 GiB", "100kb", "4096")] == [
        *(2 << 30, 512 << 20, 3 << 29, 100 << 10, 4096)
    ]


@pytest.mark.parametrize("text", ["", "d", "-1d", "7 days", "1e3", "yesterday", "٣d"])
def test_what_is_none_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="no length of time"):
        duration(text)
    with pytest.raises(UsageError, match="no time"):
        moment(text, 0.0)
    with pytest.raises(UsageError, match="no size"):
        size(text)

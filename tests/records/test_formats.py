"""Record formats: each has its file, its lines with the right answers, and its row in the document.

A fixture in ``data`` is one text: the fields that its records must have, a line "---", and the log.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.codec import _plain
from mftriage.log import LogRecord
from mftriage.model import HardwareError
from mftriage.records import FORMATS, formats, log_records
from mftriage.records.page_size import addressed
from tests.craft import parse_text

DATA = sorted((Path(__file__).parent / "data").glob("*.txt"))
ROOT = Path(__file__).parents[2]


def format_of(path: Path) -> str:
    """The format that a fixture is of: ``mce-amd-old`` is of mce-amd."""
    names = [name for name in FORMATS if path.stem == name or path.stem.startswith(f"{name}-")]
    return max(names, key=len)


def read(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    expected, _, log = path.read_text().partition("\n---\n")
    return json.loads(expected), log.splitlines()


LINES = [line for path in DATA for line in read(path)[1]]


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Where ``found`` lacks something that is expected."""
    if isinstance(expected, dict):
        return [
            d
            for key, value in expected.items()
            for d in differences(value, (found or {}).get(key), f"{where}.{key}")
        ]
    return [] if expected == found else [f"{where}: {found!r}, not {expected!r}"]


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_fixture(path: Path) -> None:
    expected, lines = read(path)
    found = FORMATS[format_of(path)].decode(parse_text(lines))
    assert len(found) == len(expected)
    for want, record in zip(expected, found, strict=True):
        assert not differences(want, _plain(record))
        assert record.raw and set(record.raw) <= {r.text for r in parse_text(lines)}


def test_every_format_has_a_fixture_and_every_fixture_a_format() -> None:
    assert {format_of(path) for path in DATA} == set(FORMATS)


def test_every_format_has_a_row_in_the_document() -> None:
    text = (ROOT / "docs" / "records.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert [row[0] for row in rows] == sorted(FORMATS)


def test_every_format_is_one_file_that_stands_alone() -> None:
    """Adding one touches nothing else: no file of the package names another's format but by import."""
    folder = Path(formats.__path__[0])
    files = {p.stem.replace("_", "-") for p in folder.glob("*.py")} - {"--init--"}
    assert files == set(FORMATS)
    init = (folder.parent / "__init__.py").read_text()
    assert not any(re.search(rf"\b{name}\b", init) for name in ("ghes", "edac", "bert", "cxl"))


@pytest.mark.parametrize("name", FORMATS)
def test_markers_let_every_line_through(name: str) -> None:
    markers, foreign = FORMATS[name].markers, FORMATS[name].foreign
    for path in (p for p in DATA if format_of(p) == name):
        log = parse_text(read(path)[1])
        sifted = [r for r in log if any(mark in r.text for mark in markers)]
        sifted = [r for r in sifted if foreign is None or foreign not in r.text]
        assert FORMATS[name].decode(sifted) == FORMATS[name].decode(log)


MUTATED = st.builds(
    lambda line, at, cut, new: line[: at % len(line)] + new + line[at % len(line) + cut :],
    st.sampled_from(LINES),
    st.integers(0, 200),
    st.integers(0, 12),
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(
            ("9" * 40, "f" * 40, "0x", "-1", ":", "{", "}", "{9}", "\x00", "٣", "(", " on ", "|")
        ),
    ),
)
HEX = ("status", "addr", "misc", "mcgstatus", "ip", "synd", "ipid", "ppin", "cpuid", "tsc")


def check(record: HardwareError) -> None:
    """What holds for every record, whatever its lines were."""
    for value in (record.physical_address, record.physical_address_mask):
        assert value is None or 0 <= int(value, 16) < 1 << 64
    if record.mce is not None:
        for name in HEX:
            value = getattr(record.mce, name)
            assert value is None or 0 <= int(value, 16) < 1 << 64
        assert record.mce.address_kind != "normalized" or record.physical_address is None
    assert len(record.raw) <= 64
    json.dumps(_plain(record))


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(st.lists(st.one_of(MUTATED, st.sampled_from(LINES)), max_size=40))
def test_any_lines(lines: list[str]) -> None:
    found, failed = log_records(parse_text(lines))
    assert not failed
    for record in found:
        check(record)


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_time_is_linear(path: Path) -> None:
    """No line, however long or often repeated, makes a decoder slow."""
    lines = [record.text for record in parse_text(read(path)[1])]
    log = [LogRecord(1.0, None, (line * 4096)[:4096]) for line in lines] * 5
    log += [LogRecord(1.0, None, line) for line in lines] * (20_000 // len(lines))
    start = time.process_time()
    FORMATS[format_of(path)].decode(log)
    assert time.process_time() - start < 6


def test_a_page_below_zero_is_none() -> None:
    text = "EDAC MC0: 1 UE multi-bit ECC on unknown memory (node:0 page:-d offset:0x5080 grain:4096 - x)"
    (record,), failed = log_records([LogRecord(1.0, 0, text)])
    assert not failed and record.edac is not None
    check(addressed(record, 65536))
    assert (record.edac.page, addressed(record, 65536).physical_address) == (None, None)

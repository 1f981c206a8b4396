"""Logs as text, and the door that every string of a dump comes through."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mftriage.log import LogRecord, lines_of
from mftriage.text import c_string, clean
from tests.craft import parse_text

QUICK = settings(max_examples=300, derandomize=True, deadline=None, database=None)
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ("[    1.500000] hello", LogRecord(1.5, None, "hello")),
        ("<4>[   12.25] hello", LogRecord(12.25, 4, "hello")),
        ("<30>[   12.25] facility 3, level 6", LogRecord(12.25, 6, "facility 3, level 6")),
        ("[    1.0][    T7] PRINTK_CALLER", LogRecord(1.0, None, "PRINTK_CALLER")),
        ("[    1.0][   C12] on a CPU", LogRecord(1.0, None, "on a CPU")),
        ("[    1.0]  indented", LogRecord(1.0, None, " indented")),
        ("no prefix", LogRecord(None, None, "no prefix")),
        ("[drm] not a time", LogRecord(None, None, "[drm] not a time")),
    ],
)
def test_prefixes(line: str, record: LogRecord) -> None:
    assert parse_text([line]) == parse_text([line + "\r\n"]) == [record]


def test_a_line_without_a_time_keeps_the_last_one_s() -> None:
    found = parse_text(["before", "[    2.0] two", "more of it", "", "[    1.0] one"])
    assert [(r.time, r.text) for r in found] == [
        (None, "before"),
        (2.0, "two"),
        (2.0, "more of it"),
        (1.0, "one"),
    ]


@QUICK
@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.builds("<{}>[{:.6f}] {}".format, st.integers(), st.floats(0, 1e9), st.text()),
            st.from_regex(r"<\d{0,30}>\[ *\d{0,400}\.\d{0,30}\](\[ ?[TC]\d+\])?.*", fullmatch=True),
        )
    )
)
@example(["[" + "9" * 400 + ".0] a time beyond any float"])
@example(["<" + "9" * 5000 + ">[1.0] a level beyond any integer's text"])
@example(["[\u0661.\u0662] digits of another script"])
def test_any_text_is_a_log(lines: list[str]) -> None:
    for record in parse_text(lines):
        assert record.level is None or 0 <= record.level <= 7
        assert record.time is None or 0 <= record.time < float("inf")
        assert len(record.text) <= 10 * 4096


@QUICK
@given(st.one_of(st.text(max_size=80), st.binary(max_size=80)))
@example(BIDI)
@example("\x00\x1b\x7f\x80\x9b\u2028\u2029\ufeff\U000e0001\ud800\udfff")
@example(b"\xff\xc3\x28\xed\xa0\x80\x1b[31m")
def test_clean_leaves_nothing_that_a_terminal_obeys(raw: str | bytes) -> None:
    text = clean(raw)
    for character in text:
        assert character in "\t\n" or unicodedata.category(character)[0] not in "C"
        assert unicodedata.category(character) not in ("Zl", "Zp")
        assert character not in BIDI
    assert text.encode("utf-8").decode("utf-8") == text
    assert clean(text) == text


@QUICK
@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=60))
def test_clean_leaves_everything_else_as_it_is(text: str) -> None:
    assert clean(text) == clean(text.encode()) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[0m", "\\x1b[0m"),
        ("\u202e", "\\u202e"),
        ("\U000e0001", "\\U000e0001"),
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        ("a\tb\nc", "a\tb\nc"),
        ("a\rb", "a\\x0db"),
    ],
)
def test_what_clean_shows(raw: str | bytes, shown: str) -> None:
    assert clean(raw) == shown


def test_limits() -> None:
    assert len(clean("x" * 10_000)) == 4096
    assert len(clean(b"x" * 10_000, 10)) == 10
    assert [len(r.text) for r in lines_of("x" * 10_000, None, None)] == [4096]


def test_c_string() -> None:
    assert c_string(b"swapper/0\0garbage\x1b") == "swapper/0"
    assert c_string(b"sixteen bytes ok") == "sixteen bytes ok"
    assert c_string(b"") == ""
    assert c_string(b"ev\x1bil\0") == "ev\\x1bil"


def test_time_is_linear() -> None:
    """A line of a megabyte, and a hundred thousand of them, are read in no time."""
    start = time.perf_counter()
    for filler in ("[", " ", "<1>", "[ 1.0][ T", "9", "[T1]"):
        parse_text([filler * (1_000_000 // len(filler))])
    parse_text(["[    1.0] line"] * 100_000)
    assert time.perf_counter() - start < 5

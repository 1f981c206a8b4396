"""The terminal report: 25 lines, its width, and nothing that a terminal obeys."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mftriage.model import Triage
from mftriage.render import render
from tests.render.full import FULL, huge
from tests.render.samples import ARM64_GHES, INCONCLUSIVE, SAMPLES, UNRELATED_SYSRQ
from tests.render.strategies import HOSTILE, QUICK, saturate, triages

_SGR = re.compile("\x1b\\[[0-9;]*m")


def check(report: str, width: int) -> None:
    """Hold what holds for every terminal report without colour."""
    assert report.endswith("\n")
    assert report.count("\n") <= 25
    lines = report.removesuffix("\n").split("\n")
    for line in lines:
        assert line.isprintable(), ascii(line)
        columns = sum(
            0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
            for char in line
        )
        assert columns <= max(width, 48)
    report.encode()


@QUICK
@given(triages(), st.integers(0, 220))
def test_any_triage_fits_and_obeys(triage: Triage, width: int) -> None:
    check(render(triage, "text", width=width), width)


@QUICK
@given(triages())
def test_colour_changes_nothing_but_colour(triage: Triage) -> None:
    coloured = _SGR.sub("", render(triage, "text", color=True))
    assert [line.rstrip() for line in coloured.split("\n")] == render(triage, "text").split("\n")


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_hostile_string_everywhere(hostile: str) -> None:
    check(render(saturate(FULL, hostile), "text"), 100)


@pytest.mark.parametrize("word", ["word ", "x", "漢", "\x1b", "e\u0301"], ids=ascii)
@pytest.mark.parametrize("width", [48, 100, 400])
def test_huge_triage_fits(word: str, width: int) -> None:
    check(render(huge(word), "text", width=width), width)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_samples_start_with_the_verdict(name: str, width: int) -> None:
    triage = SAMPLES[name]
    report = render(triage, "text", width=width)
    check(report, width)
    assert report.startswith(f"[{triage.verdict.kind}, {triage.verdict.confidence}] ")
    assert "\n\n\n" not in report


def test_says_what_an_engineer_asks_for() -> None:
    report = render(ARM64_GHES, "text")
    for fact in (
        "0x444d0 (physical 0x444d0780), poisoned",
        "slab cache dentry, 42 objects",
        '"reserved kernel page" (ignored), but the dump proves: slab page',
        "multi-bit ECC, at 0x444d0780, DIMM_C0_S0",
        "row 6699, column 136",
        "in objindexd[131] on CPU 1",
        "__d_lookup_rcu ← lookup_fast",
        "7.3.4+deb13-cloud-arm64",
        "against      FAR is not valid",
    ):
        assert fact in report


def test_control_characters_are_spelled_out() -> None:
    report = render(saturate(INCONCLUSIVE, "a\x1b[2Jb\u202ec\nd"), "text")
    assert "a\\x1b[2Jb\\u202ec\\nd" in report


def test_unknown_facts_are_left_out() -> None:
    report = render(INCONCLUSIVE, "text")
    for label in ("page", "owner", "hardware", "DIMM", "crash", "kernel said"):
        assert f"\n{label} " not in report
    assert "None" not in report


def test_a_cut_list_says_how_much_is_missing() -> None:
    assert "… and 299 more (see -f json)" in render(huge(many=300), "text")


def test_remedy_is_shown() -> None:
    assert "→ dmidecode -t memory" in render(UNRELATED_SYSRQ, "text")

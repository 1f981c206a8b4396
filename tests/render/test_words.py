"""Phrases that all reports share."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from mftriage import model
from mftriage.model import Frame, Panic, Triage
from mftriage.render import words
from mftriage.render.hardware import ranked
from mftriage.render.pagemap import PageMap, page_map
from tests.render.samples import ARM64_GHES, INCONCLUSIVE, UNRELATED_SYSRQ, X86_SYSCTL_PANIC


def test_every_kind_has_words() -> None:
    assert set(words.VERDICTS) == set(get_args(model.VerdictKind))
    assert set(words.OWNERS) == set(get_args(model.OwnerKind))
    assert set(words.SYMBOLS) == set(get_args(model.Symbols))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("\x1b[0m", "\\x1b[0m"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x9b\u202e\u200b", "\\x9b\\u202e\\u200b"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_visible(raw: str, shown: str) -> None:
    assert words.visible(raw) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.0068, "6.8 ms"),
        (59.94, "59.9 s"),
        (81.36, "1 min 21 s"),
        (3600, "1 h 0 min"),
        (1_904_010.4, "22 d 0 h"),
        (-90, "-1 min 30 s"),
        (float("nan"), "not known"),
        (float("inf"), "not known"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (192, "192 B"), (4096, "4 KiB"), (9_337_212, "8.9 MiB"), (64 << 30, "64 GiB")],
)
def test_size(size: int, shown: str) -> None:
    assert words.size(size) == shown


def test_moment_keeps_what_is_no_time() -> None:
    assert words.moment("2026-11-24T03:12:41Z") == "2026-11-24 03:12:41 UTC"
    assert words.moment("yesterday") == "yesterday"


def test_kernel_words_only_where_they_differ() -> None:
    assert words.kernel_words(X86_SYSCTL_PANIC) == (
        '"reserved kernel page" (ignored), but the dump proves: slab page'
    )
    assert words.kernel_words(UNRELATED_SYSRQ) is None
    assert words.kernel_words(INCONCLUSIVE) is None


def test_second_failure_of_a_page_does_not_hide_the_first_words() -> None:
    first = X86_SYSCTL_PANIC.memory_failures[0]
    again = replace(first, page_type="already poisoned page", action="failed")
    triage = replace(X86_SYSCTL_PANIC, memory_failures=(first, again))
    assert words.kernel_words(triage) == words.kernel_words(X86_SYSCTL_PANIC)


def test_stack_drops_the_way_of_dying_but_never_everything() -> None:
    def panic(*names: str) -> Panic:
        return Panic(trace=tuple(Frame(function=name) for name in names))

    assert words.stack(panic("vpanic", "panic", "memory_failure")) == "memory_failure"
    assert words.stack(panic("memory_failure", "panic")) == "memory_failure ← panic"
    assert words.stack(panic("vpanic", "panic")) == "vpanic ← panic"


def test_worst_record_of_memory_comes_first() -> None:
    records = ARM64_GHES.hardware_errors
    other = replace(records[0], severity="fatal", is_memory=False)
    assert ranked((other, *reversed(records))) == [*records, other]


def test_error_to_crash() -> None:
    assert words.error_to_crash(ARM64_GHES) == "1 min 21 s"
    assert words.error_to_crash(INCONCLUSIVE) is None


def _mapped(triage: Triage, address: str, offset: str | None, size: int) -> PageMap | None:
    page = triage.page
    assert page and page.owner and page.owner.object
    bad = replace(page.owner.object, offset=offset)
    owner = replace(page.owner, object=bad, object_size=size)
    return page_map(replace(triage, page=replace(page, physical_address=address, owner=owner)))


@pytest.mark.parametrize(
    ("address", "offset", "size", "expected"),
    [
        ("0x17413c0", "0x0", 192, PageMap(4096, 0x3C0, 0x3C0, 0x480)),
        ("0x17413e8", "0x28", 192, PageMap(4096, 0x3C0, 0x3C0, 0x480)),
        # An object of 8 KiB that started in the page before.
        ("0x1741040", "0x1040", 8192, PageMap(4096, 0x40, 0, 4096)),
        ("0x17413c0", None, 192, PageMap(4096, 0x3C0, None, None)),
        ("0x17413c0", "0x1000", 192, PageMap(4096, 0x3C0, None, None)),
        ("0x1741000", "0x0", 192, None),
        ("nonsense", "0x0", 192, None),
    ],
)
def test_page_map(address: str, offset: str | None, size: int, expected: PageMap | None) -> None:
    assert _mapped(X86_SYSCTL_PANIC, address, offset, size) == expected


def test_first_line_of_a_page_counts_if_a_record_vouches_for_it() -> None:
    record = replace(X86_SYSCTL_PANIC.hardware_errors[0], physical_address="0x1741000")
    triage = replace(X86_SYSCTL_PANIC, hardware_errors=(record,))
    assert _mapped(triage, "0x1741000", "0x0", 192) == PageMap(4096, 0, 0, 192)

"""A row is what its triage says, and nothing of it is guessed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given

from mftriage.codec import from_json
from mftriage.fleet.row import row_of
from mftriage.fleet.schema import ROW_KEYS
from mftriage.model import (
    Dimm,
    Frame,
    HardwareError,
    MemoryFailure,
    Owner,
    PageInfo,
    PageRequest,
    Panic,
    Triage,
)
from tests.craft import FIXTURES, ROOT
from tests.render.samples import X86_SYSCTL_PANIC
from tests.render.strategies import QUICK, triages

NAMES = sorted(path.parent.name for path in FIXTURES.glob("*/expected.json"))


def reported(name: str) -> Triage:
    return from_json((ROOT / "reports" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_of_every_fixture(name: str) -> None:
    truth = json.loads((FIXTURES / name / "expected.json").read_text(encoding="utf-8"))
    row = row_of(reported(name))
    assert tuple(row) == ROW_KEYS
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    for key in ("verdict", "confidence", "physical_address", "owner", "slab_cache"):
        assert row[key] == truth[key]
    assert (row["pfn"], row["dimm_label"]) == (truth["page"], truth["dimm"])


def test_what_only_the_course_tells() -> None:
    later = row_of(reported("arm64-external-abort"))
    assert later["delay_seconds"] == pytest.approx(10.13, abs=0.01)
    assert (later["caught_at_once"], later["sysctl"]) == (True, 0)
    assert (later["row"], later["bank"], later["rank"]) == (41742, 9, 0)
    assert later["crash_site"] == "__d_lookup_rcu"
    at_once = row_of(reported("x86_64-dentry"))
    assert at_once["caught_at_once"] is None and 0 < at_once["delay_seconds"] < 0.01
    assert at_once["crash_site"] is None and at_once["page_type"] == "reserved kernel page"
    unrelated = row_of(reported("x86_64-anon"))
    assert unrelated["delay_seconds"] is None and unrelated["recovered_before"] == 1
    assert row_of(reported("arm64-corrected"))["corrected_before"] == 1


def test_injected() -> None:
    assert row_of(reported("x86_64-dentry-hwpoison-inject"))["injected"] is True
    assert row_of(reported("x86_64-dentry"))["injected"] is False
    # the kernel's variable says nothing of a page that had no memory failure
    assert row_of(reported("x86_64-amd"))["injected"] is None
    real = reported("x86_64-dentry")
    asked = replace(
        real, page_requests=(PageRequest(time=1.0, kind="injection", pfn=real.page.pfn),)
    )
    assert row_of(asked)["injected"] is True
    records = tuple(replace(r, injected=True) for r in real.hardware_errors)
    assert row_of(replace(real, hardware_errors=records))["injected"] is True
    stack = Panic(message="x", time=8.0, trace=(Frame(function="madvise_inject_error"),))
    assert row_of(replace(real, hardware_errors=(), panic=stack))["injected"] is True


@pytest.mark.parametrize(
    ("dimm", "host", "name", "by"),
    [
        (Dimm(serial_number="3A4B5C6D", manufacturer="Samsung", label="A1"), "db1", "Samsung 3A4B5C6D", "serial"),
        (Dimm(serial_number="3A4B5C6D"), None, "3A4B5C6D", "serial"),
        (Dimm(locator="DIMM 0", bank_locator="P0 CHANNEL A"), "db1", "db1 P0 CHANNEL A DIMM 0", "place"),
        (Dimm(label="DIMM_A1"), "db1", "db1 DIMM_A1", "place"),
        (Dimm(label="DIMM_A1"), None, None, None),
        (Dimm(label="DIMM_A1"), "localhost", None, None),
        (Dimm(label="DIMM_A1", serial_number="00000000"), "db1", "db1 DIMM_A1", "place"),
        (Dimm(label="DIMM_A1", serial_number="Not Specified"), "db1", "db1 DIMM_A1", "place"),
        (Dimm(label="DIMM_A1", serial_number="FFFFFFFF"), "db1", "db1 DIMM_A1", "place"),
        (Dimm(candidates=("A1", "A2")), "db1", None, None),
        (None, "db1", None, None),
    ],
)  # fmt: skip
def test_the_dimms_name(
    dimm: Dimm | None, host: str | None, name: str | None, by: str | None
) -> None:
    triage = replace(
        X86_SYSCTL_PANIC, dimm=dimm, dump=replace(X86_SYSCTL_PANIC.dump, hostname=host)
    )
    row = row_of(triage)
    assert (row["dimm"], row["dimm_by"]) == (name, by)


@pytest.mark.parametrize(
    ("kind", "owner", "sysctl", "caught"),
    [
        ("delayed-crash", "slab", 0, True),
        ("delayed-crash", "slab", None, True),
        ("possible-delayed-crash", "page-table", 0, True),
        ("delayed-crash", "slab", 1, False),
        ("delayed-crash", "vmalloc", 0, False),
        ("delayed-crash", "unknown", 0, None),
        ("unrelated", "slab", 0, None),
        ("unrecoverable-panic", "slab", 1, None),
    ],
)
def test_what_the_sysctl_would_have_caught(
    kind: str, owner: str, sysctl: int | None, caught: bool | None
) -> None:
    page = PageInfo(pfn="0x1", physical_address="0x1000", owner=Owner(kind=owner))  # type: ignore[arg-type]
    triage = replace(
        X86_SYSCTL_PANIC,
        verdict=replace(X86_SYSCTL_PANIC.verdict, kind=kind),  # type: ignore[arg-type]
        page=page,
        panic_on_unrecoverable_memory_failure=sysctl,
    )
    assert row_of(triage)["caught_at_once"] is caught


def test_the_boot_before_counts_for_nothing() -> None:
    real = reported("arm64-external-abort")
    earlier = MemoryFailure(time=0.0, pfn="0x41ca1", action="recovered", previous_boot=True)
    record = HardwareError(
        source="ghes", medium="log", time=0.0, severity="fatal", is_memory=True,
        physical_address="0x41ca1000", previous_boot=True, injected=True,
    )  # fmt: skip
    more = replace(
        real,
        memory_failures=(earlier, *real.memory_failures),
        hardware_errors=(record, *real.hardware_errors),
    )
    assert row_of(more) == row_of(real)


def test_the_first_level_of_the_signature() -> None:
    row = row_of(reported("arm64-external-abort"))
    assert row["signature"] == "2:delayed-crash:slab/dentry@__d_lookup_rcu"
    assert row["cause"] == "2:delayed-crash:slab/dentry"
    assert row_of(replace(reported("x86_64-amd"), signature=None))["cause"] is None


@QUICK
@given(triages())
def test_any_triage_makes_a_row(triage: Triage) -> None:
    row = row_of(triage)
    assert tuple(row) == ROW_KEYS
    json.dumps(row)

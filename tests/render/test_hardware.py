"""What the hardware reported, in words: rows, times, places, outcomes, and which part it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mftriage.model import (
    CorrectedErrors,
    Dimm,
    HardwareError,
    Location,
    MceRegisters,
    MemoryFailure,
    PastErrors,
    RecordDimm,
    Task,
    Triage,
)
from mftriage.registers import of_record
from mftriage.render import render
from mftriage.render.dimm import part
from mftriage.render.hardware import ErrorRow, corrected_line, error_rows, history_line
from tests.render.full import FULL
from tests.render.samples import SAMPLES, X86_SYSCTL_PANIC

PFN = 0x1741


def error(**more: Any) -> HardwareError:
    words: dict[str, Any] = {
        "source": "ghes",
        "medium": "log",
        "time": 1_904_000.5,
        "severity": "recoverable",
        "is_memory": True,
        "error_type": "multi-bit ECC",
        "physical_address": hex(PFN << 12 | 0x3C0),
        **more,
    }
    return HardwareError(**words)


def triage(*errors: HardwareError, **more: Any) -> Triage:
    return replace(X86_SYSCTL_PANIC, hardware_errors=errors, dimm=None, **more)


def row(record: HardwareError, **more: Any) -> ErrorRow:
    (only,) = error_rows(triage(record, **more))
    return only


def test_a_record_in_words() -> None:
    location = Location(node=0, card=6, row=38832)
    told = row(error(dimm=RecordDimm(label="DIMM_G1"), location=location))
    assert told.what == "Uncorrected memory error: multi-bit ECC"
    # 10.4 s before the crash at 03:12:41
    assert told.when == ["1904000.500000 s", "about 2026-11-24 03:12:31 UTC"]
    assert told.place == [
        "DIMM_G1", "node 0, card 6, row 38832", "physical 0x17413c0 (pfn 0x1741)"
    ]  # fmt: skip
    assert told.harm == "Not corrected: the data is lost. The hardware could go on."
    assert told.outcome == "The kernel left the page in use, and panicked."
    assert told.source == "firmware (APEI), in the kernel log"


def test_a_time_known_to_the_second_is_told_as_such() -> None:
    told = row(error(source="mce", medium="memory", wall_time="2026-11-24T03:12:40Z"))
    assert told.when == ["1904000 s (to the second)", "2026-11-24 03:12:40 UTC"]
    assert row(error(time=None)).when == ["not known"]


def test_no_utc_is_worked_out_for_the_boot_before() -> None:
    told = row(error(previous_boot=True))
    assert told.when == ["1904000.500000 s"]
    assert told.marks == ["of the boot before"]
    assert told.outcome is None  # the failure of that page is of this boot


def test_an_injected_error_says_so_everywhere() -> None:
    injected = triage(error(injected=True))
    assert error_rows(injected)[0].marks == ["injected by software: no hardware fault"]
    assert "INJECTED" in render(injected, "text")
    assert "INJECTED BY SOFTWARE" in render(injected, "markdown")
    assert '<b class="loud">injected by software' in render(injected, "html")
    assert part(injected) is None


@pytest.mark.parametrize(
    ("action", "killed", "outcome"),
    [
        ("recovered", (Task(comm="victim", pid=7),), "took the page out of use, and killed victim[7]."),
        ("failed", (), "could not take the page out of use."),
        (None, (), "did not say what became of the page."),
    ],
)  # fmt: skip
def test_what_the_kernel_did(action: Any, killed: tuple[Task, ...], outcome: str) -> None:
    failure = MemoryFailure(time=1.0, pfn=hex(PFN), action=action, killed=killed)
    told = row(error(), memory_failures=(failure,))
    assert told.outcome == f"The kernel {outcome}"
    assert row(error(severity="corrected"), memory_failures=(failure,)).outcome is None


def test_an_address_that_is_none_of_the_system_is_not_shown_as_one() -> None:
    mce = MceRegisters(addr="0x5dc2a00", address_kind="normalized", bank=18, cpu=3)
    told = row(error(source="mce", mce=mce, physical_address=None))
    assert told.place == [
        "0x5dc2a00, an address of the memory controller's own",
        "told by CPU 3, bank 18",
    ]


def test_a_flood_is_one_row_a_dimm_and_its_uncorrected_errors_stand_in_front() -> None:
    dimm = RecordDimm(label="DIMM_A1", how="edac-label")
    corrected = [
        error(source="edac", severity="corrected", time=float(i), dimm=dimm,
              physical_address=hex((PFN + i % 3) << 12))
        for i in range(10_000)
    ]  # fmt: skip
    flood = triage(*corrected, error(dimm=dimm))
    bad, many = error_rows(flood)
    assert bad.record.severity == "recoverable" and bad.many == 1
    assert (many.many, many.when[0]) == (10_000, "10000 records")
    assert many.when[1] == "0.000000 s to 9999.000000 s"
    assert many.place == ["DIMM_A1", "3 different addresses", "in 3 pages"]
    for fmt in ("text", "markdown", "html"):
        assert len(render(flood, fmt)) < 100_000


def test_what_is_alike_is_one_row_and_what_is_not_is_two() -> None:
    assert [r.many for r in error_rows(triage(error(), error(time=5.0)))] == [2]
    assert len(error_rows(triage(error(), error(physical_address="0x1000")))) == 2
    assert len(error_rows(triage(error(), error(previous_boot=True)))) == 2
    one, other = (
        error(severity="corrected", dimm=RecordDimm(label=name)) for name in ("DIMM_A1", "DIMM_B1")
    )
    assert len(error_rows(triage(one, other))) == 2


def test_registers_and_raw_lines_are_folded_away() -> None:
    mce = MceRegisters(vendor="Intel", status="0xbd000000000000c0", bank=9)
    record = error(source="mce", mce=mce, raw=("mce: [Hardware Error]: CPU 0",))
    record = replace(record, decoded=of_record(record))
    html, markdown = (render(triage(record), fmt) for fmt in ("html", "markdown"))
    assert "<details open" not in html and "bit by bit" in html
    assert "software must act" not in html and "nothing has used the data yet" in html
    _, folded = markdown.split("<details>")
    assert "| `55` | `AR` | `0` | nothing has used the data yet |" in folded
    assert "mce: [Hardware Error]: CPU 0" in folded


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (CorrectedErrors(place="A1", count=1, events=1), "A1: 1 corrected error"),
        (
            CorrectedErrors(place="A1", count=262, events=9, first=0.0, last=75600.0, per_hour=12.48,
                            same=("row", "bank"), scattered=("column",)),
            "A1: 262 corrected errors in 21 h 0 min (12.48 an hour), all in the same row and bank, scattered over columns",
        ),
    ],
)  # fmt: skip
def test_corrected_errors_in_words(entry: CorrectedErrors, said: str) -> None:
    assert corrected_line(entry) == said


# which part


def test_the_part_with_how_it_is_known_and_how_sure() -> None:
    dimm = Dimm(label="DIMM_G1", serial_number="H0KE", how="FRU text", certainty="high")
    found = part(replace(X86_SYSCTL_PANIC, dimm=dimm))
    assert found is not None
    assert (found.name, found.known, found.how) == ("DIMM_G1", True, "Known by FRU text.")
    assert (found.sure, found.facts[1]) == ("high", ("serial number", "H0KE"))


def test_a_part_with_corrected_errors_only_is_told_as_such() -> None:
    dimm = Dimm(label="DIMM_G1", how="FRU text", certainty="high")
    corrected = triage(error(severity="corrected"), memory_failures=())
    found = part(replace(corrected, dimm=dimm))
    assert found is not None and found.how.endswith("Only corrected errors are known of it.")


def test_of_an_error_that_is_not_memory_no_data_is_told_lost() -> None:
    assert row(error(is_memory=False)).harm == "Not corrected. The hardware could go on."


def test_several_candidates_are_all_named() -> None:
    several = replace(X86_SYSCTL_PANIC, dimm=Dimm(candidates=("A1", "B1"), certainty="low"))
    found = part(several)
    assert found is not None and found.name == "One of 2 DIMMs"
    assert "<li>A1</li>" in render(several, "html") and "- `A1`" in render(several, "markdown")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (error(), "neither a DIMM location nor a FRU text"),
        (error(source="mce", mce=MceRegisters(bank=9)), "gives an address, and no slot"),
        (error(source="mce", mce=MceRegisters(address_kind="normalized")), "of the memory controller's own"),
    ],
)  # fmt: skip
def test_a_part_that_nothing_names(record: HardwareError, why: str) -> None:
    unknown = triage(record)
    found = part(unknown)
    assert found is not None and not found.known and why in found.how
    assert ("physical address", "0x17413c0") in found.facts
    assert "DIMM not known" in render(unknown, "html")


def test_a_part_without_any_record() -> None:
    found = part(triage())
    assert found is not None and found.how.startswith("No record of the hardware is left")


@pytest.mark.parametrize("name", ["unrelated-sysrq", "inconclusive"])
def test_no_part_where_memory_is_not_to_blame(name: str) -> None:
    assert part(replace(SAMPLES[name], hardware_errors=(), dimm=None)) is None


def test_no_part_is_looked_for_after_a_simulated_failure() -> None:
    assert part(triage(error(), hw_memory_failure=False)) is None
    # false as well where no failure was handled at all
    assert part(triage(error(), hw_memory_failure=False, memory_failures=())) is not None


def test_the_host_s_history_in_words() -> None:
    (past,) = FULL.history
    said = "DIMM_A1: 3 uncorrected memory errors, multi-bit ECC, on the dimm and row that failed, from 2026-10-01T00:00:00Z to 2026-11-01T00:00:00Z, by rasdaemon"
    assert history_line(past) == said
    bare = PastErrors(source="rasdaemon", kind="other", count=1)
    assert history_line(bare) == "place not known: 1 error of another part, by rasdaemon"
    for fmt in ("markdown", "html"):
        assert "3 uncorrected memory errors" in render(FULL, fmt)

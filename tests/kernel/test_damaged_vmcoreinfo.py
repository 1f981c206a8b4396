"""A real dump whose VMCOREINFO lies: a poorer report, with the reason in it, and soon."""

from __future__ import annotations

import resource
from contextlib import closing
from pathlib import Path

import pytest

from mftriage.capsule import write
from mftriage.dump import open_dump
from mftriage.dump.capsule import Sidecar
from mftriage.dump.vmcoreinfo import VmcoreInfo
from mftriage.facts import Facts
from mftriage.kernel.gather import gather
from mftriage.symbols import open_kernel
from mftriage.triage import Analysis, conclude


def analysis(elf: Path, changes: dict[str, object]) -> tuple[Facts, Analysis]:
    """The facts of a dump with some lines of its VMCOREINFO changed, and its findings forgotten."""
    dump = open_dump(elf)
    dump.sidecar = Sidecar()
    values = {**dump.vmcoreinfo.values, **{key: str(value) for key, value in changes.items()}}
    dump.vmcoreinfo = VmcoreInfo("".join(f"{k}={v}\n" for k, v in values.items()).encode())
    kernel = open_kernel(dump)
    facts = gather(kernel, 2.0)
    return facts, Analysis(conclude(facts), (dump, kernel))


def facts_with(elf: Path, changes: dict[str, object]) -> Facts:
    facts, made = analysis(elf, changes)
    made.dump.close()
    unexpected = [row for row in facts.not_checked if "unexpected" in row.why]
    assert not unexpected
    return facts


TABLES = (
    *("kallsyms_names", "kallsyms_token_table", "kallsyms_token_index", "kallsyms_offsets"),
    *("kallsyms_num_syms", "_stext"),
)


@pytest.mark.parametrize("value", ["-1", "0", "f" * 16, "f" * 17, "8" + "0" * 15, "1" + "0" * 40])
@pytest.mark.parametrize("name", TABLES)
def test_symbols_that_lie_elsewhere(x86_elf: Path, name: str, value: str) -> None:
    facts = facts_with(x86_elf, {f"SYMBOL({name})": value})
    if facts.dump.symbols == "vmcoreinfo":
        (row,) = [row for row in facts.not_checked if row.what == "types and symbols"]
        assert row.why and row.why != "not known"
    assert facts.log


@pytest.mark.parametrize("value", [-1, 0, 1 << 20, 1 << 40, 10**30, "9" * 5000])
@pytest.mark.parametrize(
    "key",
    [
        *("SIZE(prb_desc)", "SIZE(printk_info)", "OFFSET(prb_desc_ring.infos)", "SYMBOL(prb)"),
        *("OFFSET(printk_info.text_len)", "OFFSET(prb_data_ring.data)"),
    ],
)
def test_the_log(x86_elf: Path, key: str, value: object) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = facts_with(x86_elf, {key: value})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 << 10  # KiB
    if not facts.log:
        assert "the kernel log" in {row.what for row in facts.not_checked}


@pytest.mark.parametrize("error", [ValueError, OverflowError, MemoryError])
def test_a_log_that_breaks_its_reader(
    x86_elf: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error("no")

    monkeypatch.setattr("mftriage.kernel.gather.read_log", broken)
    facts = facts_with(x86_elf, {})
    (row,) = [row for row in facts.not_checked if row.what == "the kernel log"]
    assert "damaged" in row.why


@pytest.mark.parametrize("time", [-1, 10**18, 10**30, "9" * 5000])
def test_crash_times_that_no_calendar_has(x86_elf: Path, time: object) -> None:
    facts = facts_with(x86_elf, {"CRASHTIME": time})
    assert facts.dump.crash_time is None or facts.dump.crash_time.startswith("20")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("SIZE(page)", [-1, 0, 1, 8, 24, 31, 513, 1 << 20, 1 << 40]),
        ("OFFSET(page.flags)", [-8, 57, 64, 1 << 19, 1 << 63]),
        ("OFFSET(page._refcount)", [-1, 61, 1 << 40]),
        ("SIZE(mem_section)", [-1, 0, 1, 7, 4097, 1 << 40]),
        ("OFFSET(mem_section.section_mem_map)", [-8, 1 << 19]),
        ("NUMBER(SECTION_SIZE_BITS)", [-1, 0, 11, 64, 1 << 62]),
        ("NUMBER(PG_hwpoison)", [-1, 64, 1 << 40]),
        ("SYMBOL(mem_section)", ["-1", "1" + "0" * 17]),
    ],
)
def test_a_memory_map_that_cannot_be(x86_elf: Path, key: str, values: list[object]) -> None:
    for value in values:
        facts = facts_with(x86_elf, {key: value})
        rows = [row for row in facts.not_checked if row.what == "struct pages"]
        assert len(rows) == 1, (key, value, facts.not_checked)
        assert not facts.pages and not facts.poisoned_pages


@pytest.mark.parametrize("value", [1 << 24, 1 << 40])
def test_more_sections_than_addresses(x86_elf: Path, value: int) -> None:
    facts_with(x86_elf, {"LENGTH(mem_section)": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SYMBOL(mem_section)", "ffffffffffffffff"),
        ("SYMBOL(mem_section)", "fffffffffffffff0"),
        ("LENGTH(mem_section)", 1 << 20),
        ("SYMBOL(kallsyms_token_index)", "ffffffffffffff00"),
    ],
)
def test_a_capsule_of_it(x86_elf: Path, tmp_path: Path, key: str, value: object) -> None:
    _, made = analysis(x86_elf, {key: value})
    with closing(made.dump):
        write(made, tmp_path / "c.elf")
    with closing(open_dump(tmp_path / "c.elf")):
        pass


@pytest.mark.parametrize("value", [-1, 0, 1, 64, 1 << 40])
@pytest.mark.parametrize("key", ["NUMBER(VA_BITS)", "NUMBER(TCR_EL1_T1SZ)", "NUMBER(PHYS_OFFSET)"])
def test_address_spaces_that_cannot_be(arm_elf: Path, key: str, value: int) -> None:
    facts_with(arm_elf, {key: value})

"""Stacks where the log has none: unwound by ORC in dumps of machine-check panics."""

from __future__ import annotations

from pathlib import Path

import pytest

from mftriage.model import Frame
from mftriage.stack import crash_site
from mftriage.triage import analyze

DATA = Path(__file__).parent / "data"

# What drgn makes of the same dumps with DWARF, but for __crash_kexec: there it stops.
STACKS = {
    "61-delayed-mce": "delay_tsc panic mce_panic do_machine_check exc_machine_check "
    "asm_exc_machine_check __d_lookup_rcu lookup_fast walk_component path_lookupat "
    "filename_lookup vfs_statx vfs_fstatat __do_sys_newfstatat do_syscall_64 "
    "entry_SYSCALL_64_after_hwframe",
    "73-kdump-delayed": "__crash_kexec vpanic panic mce_panic do_machine_check exc_machine_check "
    "asm_exc_machine_check __d_lookup_rcu lookup_fast path_lookupat filename_lookup vfs_statx "
    "vfs_fstatat __do_sys_newfstatat do_syscall_64 entry_SYSCALL_64_after_hwframe",
}


@pytest.mark.parametrize("name", STACKS)
def test_unwound_by_orc(name: str) -> None:
    """Both numberings of the tables' registers: 6.1's, and that of 7.3."""
    analysis = analyze(DATA / f"{name}.elf.zst")
    analysis.dump.close()
    panic = analysis.triage.panic
    assert panic is not None
    assert [frame.function for frame in panic.trace] == STACKS[name].split()
    assert all(frame.offset and frame.offset.startswith("0x") for frame in panic.trace)
    assert (DATA / f"{name}.elf.zst").stat().st_size < 150_000


def frames(*names: str | None) -> list[Frame]:
    return [Frame(function=name) for name in names]


def test_the_crash_site_is_behind_the_machinery() -> None:
    trace = frames("delay_tsc", "vpanic", "mce_panic", "asm_exc_machine_check", "d_lookup", "panic")
    assert [f.function for f in crash_site(trace)] == ["d_lookup", "panic"]
    assert not crash_site(frames(None, "panic", "exc_page_fault"))  # of a process
    assert crash_site(frames("panic_on_nothing_known", "x"))[0].function == "x"
    assert crash_site(frames("native_safe_halt"))[0].function == "native_safe_halt"
    assert crash_site(frames("die_hard_driver"))[0].function == "die_hard_driver"
    assert not crash_site([])
    inlined = frames("__preempt_count_add", "delay_tsc", "vpanic", "panic", "mce_panic", "d_lookup")
    assert crash_site(inlined) == inlined[-1:]

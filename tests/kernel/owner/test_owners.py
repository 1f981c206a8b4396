"""Who owned the page: a lean capsule of a real dump for each kind, with what the machine's maker knew.

The capsules beside this file were cut (``mftriage capsule --lean``) from dumps of virtual machines
in which a known page was hit; the owners below are what the program that chose the page wrote down.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mftriage.kernel.owner import DETECTORS
from mftriage.model import Owner, PageInfo, Task, Triage
from mftriage.triage import analyze

HERE = Path(__file__).parent

# name: (pfn, kind, other fields, words of the detail)
KNOWN: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "61-slab-dentry": ("0x2d35", "slab", {"slab_cache": "dentry", "objects": 21}, "21 of 192"),
    "73-slab-task_struct": ("0x1344", "slab", {"slab_cache": "task_struct"}, "task_struct"),
    "73-pagetable": ("0x3625", "page-table", {"level": "pte", "task": ("victim", 105)}, "victim"),
    "arm64-16k-pagetable": (
        *("0x10758", "page-table", {"level": "pte", "task": ("victimd", 91)}),
        "maps 0x7fff8a000000",
    ),
    "arm64-4k-pgd": ("0x41bbd", "page-table", {"level": "pgd", "task": ("victimd", 93)}, "pgd of"),
    "73-kstack": ("0x35c7", "kernel-stack", {"task": ("victim", 104)}, "0xffffd1a58045b000"),
    "arm64-16k-kstack": (
        *("0x10692", "kernel-stack", {"task": ("victimd", 91)}),
        "0xffffc00080538000",
    ),
    "arm64-4k-irqstack": ("0x401cf", "kernel-stack", {}, "CPU 0 for interrupts"),
    "73-vmalloc": (
        *("0x1231", "vmalloc", {"caller": "gen_pool_add_owner+0x4b"}),
        "0xffffd0188000d000",
    ),
    "arm64-16k-vmalloc": (
        *("0x10441", "vmalloc", {"caller": "pcpu_mem_zalloc+0x3c"}),
        "0xffffc00080468000",
    ),
    "73-percpu": ("0xf832", "percpu", {}, "first per-CPU chunk, CPU 0"),
    "73-percpu-dyn": ("0x2cbd", "percpu", {}, "dynamic per-CPU chunk"),
    "arm64-16k-percpu-dyn": ("0x10433", "percpu", {}, "0xffffffbfbf7b0000"),
    "73-large_kmalloc": ("0x2f8c", "large-kmalloc", {}, "too large for a slab cache"),
    "73-rodata": ("0x879f", "kernel-image", {"section": "rodata"}, "rodata of the kernel image"),
    "arm64-4k-ktext": (
        *("0x54fe2", "kernel-image", {"section": "text", "symbol": "vfs_read+0x0"}),
        "vfs_read",
    ),
    "73-modtext": ("0x2600", "module", {"module": "qemu_fw_cfg"}, "0xffffffffc0800000"),
    "73-memmap": ("0xfd00", "reserved", {}, "struct pages of pfns 0x4000 to 0x403f"),
    "73-zeropage": ("0xd24c", "zero-page", {}, "page of zeros"),
    "73-anon": ("0xa0ed", "anon", {"task": ("victim", 104)}, "anonymous memory"),
    "73-hugetlb": ("0x5005", "hugetlb", {}, "huge page"),
    "73-buddy0": ("0x39f9", "free", {}, "free buddy page"),
}


@cache
def triage(name: str) -> Triage:
    analysis = analyze(HERE / f"{name}.elf.zst")
    analysis.dump.close()
    return analysis.triage


def owner(name: str) -> tuple[PageInfo, Owner]:
    page = triage(name).page
    assert page is not None and page.owner is not None
    return page, page.owner


@pytest.mark.parametrize("name", KNOWN)
def test_owner(name: str) -> None:
    pfn, kind, more, words = KNOWN[name]
    page, found = owner(name)
    assert (page.pfn, found.kind) == (pfn, kind)
    assert page.hwpoison is True
    assert words in (found.detail or "")
    for field, value in more.items():
        wanted = Task(comm=value[0], pid=value[1]) if field == "task" else value
        assert getattr(found, field) == wanted, field


@pytest.mark.parametrize("name", KNOWN)
def test_a_lean_capsule_knows_names_and_types(name: str) -> None:
    assert (HERE / f"{name}.elf.zst").stat().st_size < 150_000
    assert triage(name).dump.symbols == "btf"
    assert not any("unexpected" in row.why for row in triage(name).not_checked)
    poisoned = {page.pfn: page.owner_kind for page in triage(name).poisoned_pages}
    assert poisoned[KNOWN[name][0]] == KNOWN[name][1]


def test_every_capsule_is_known() -> None:
    assert {path.name.removesuffix(".elf.zst") for path in HERE.glob("*.zst")} == set(KNOWN)


def test_most_kinds_are_met() -> None:
    """Those without a capsule need state that a poisoned page loses, or a driver of its own."""
    kinds = {kind for _, kind, *_ in KNOWN.values()}
    assert len(kinds) == 13 and len(DETECTORS) >= 13

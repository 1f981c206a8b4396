"""What a capsule claims to have been found is checked: anyone can write a capsule."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mftriage.capsule import write
from mftriage.codec import from_json, to_dict, to_json
from mftriage.dump import Dump, open_dump
from mftriage.kernel.gather import gather
from mftriage.model import Triage
from mftriage.symbols import open_kernel
from mftriage.triage import Analysis, conclude
from tests.craft import HIT

OWNERS = Path(__file__).parent / "owner"
NONSENSE: list[Any] = [
    *("x", 5, -1, 0, 1.5, 10**30, True, [], {}, {"a": 1}, [1], [[1]], [1, 2, 3], [[[]], None]),
    *(
        [["a"], None],
        [[10**30], None],
        [[-1], None],
        [None, None],
        [[1.5], "found"],
        [[True], None],
    ),
    *([[HIT], 5], [[HIT, HIT], None], [list(range(100_000)), "found"], [[0x9999], "found"]),
    *([0, 0, 10**30], [-1, 0, 0], [99, 0, 0], [0, "a", 0], [0, 0, 4096], [0, 0, -8]),
    *((1 << 64) - 1, 0xFFFF888000000000, 0xFFFFFFFF81000000),
]


def analysis(dump: Dump) -> Analysis:
    kernel = open_kernel(dump)
    return Analysis(conclude(gather(kernel, 2.0)), (dump, kernel))


def triage(path: Path, findings: dict[str, Any] | None = None) -> Triage:
    dump = open_dump(path)
    with closing(dump):
        dump.sidecar.findings.update(findings or {})
        return analysis(dump).triage


def capsules() -> list[Path]:
    names = ("73-pagetable", "73-kstack", "73-vmalloc", "73-memmap", "73-slab-task_struct")
    return [OWNERS / f"{name}.elf.zst" for name in names]


@pytest.mark.parametrize("path", capsules(), ids=lambda path: path.name.partition(".")[0])
def test_nonsense(path: Path) -> None:
    with closing(open_dump(path)) as dump:
        names = list(dump.sidecar.findings)
    good = triage(path)
    for name in names:
        for claim in NONSENSE:
            result = triage(path, {name: json.loads(json.dumps(claim))})
            assert from_json(to_json(result)) == result
            rows = [row for row in result.not_checked if "unexpected" in row.why]
            assert not rows, (name, claim, rows)
            assert result.verdict.kind == good.verdict.kind
            if name == "poisoned":
                assert set(result.poisoned_pages) <= set(good.poisoned_pages)


def test_a_page_without_the_flag_is_not_poisoned(x86_elf: Path) -> None:
    """Struct pages that the capsule holds beside that of the page that was hit."""
    result = triage(x86_elf, {"poisoned": [[HIT, HIT + 1, HIT - 1], None]})
    assert [page.pfn for page in result.poisoned_pages] == [hex(HIT)]


def test_a_stack_of_another_task(x86_elf: Path) -> None:
    path = OWNERS / "73-kstack.elf.zst"
    with closing(open_dump(path)) as dump:
        name = next(name for name in dump.sidecar.findings if name.startswith("stack:"))
        kernel = open_kernel(dump)
        other = kernel.address("init_task")
    result = triage(path, {name: other})
    assert result.page is not None and result.page.owner is not None
    assert result.page.owner.kind == "kernel-stack" and result.page.owner.task is None


@pytest.mark.parametrize(
    "names",
    [
        *(5, {}, {"symbols": {}, "nearest": [], "btf": ""}),
        {"symbols": {"prb": "x"}, "nearest": [], "btf": ""},
        {"symbols": {"init_task": 10**40}, "nearest": [[1, 2, 3]], "btf": "eJw="},
        {"symbols": {"init_task": -1}, "nearest": [], "btf": "eJw="},
        {"symbols": {"init_task": float("inf")}, "nearest": [], "btf": "eJw="},
        {"symbols": [], "nearest": 5, "btf": 3},
    ],
)
def test_names(names: Any) -> None:
    with closing(open_dump(OWNERS / "73-kstack.elf.zst")) as dump:
        dump.sidecar.names = names
        result = analysis(dump).triage
    assert result.dump.symbols == "vmcoreinfo"
    assert not [row for row in result.not_checked if "unexpected" in row.why]


def test_whether_an_object_is_in_use(x86_elf: Path, tmp_path: Path) -> None:
    """As the dump's analysis saw it: the object's own page is not needed for it."""
    with closing(open_dump(x86_elf)) as dump:
        made = analysis(dump)
        assert made.triage.page is not None and made.triage.page.owner is not None
        found = made.triage.page.owner.object
        assert found is not None
        name = f"allocated:{int(found.address, 16):#x}"
        assert dump.sidecar.findings[name] is None
        dump.sidecar.findings[name] = True
        write(made, tmp_path / "c.elf", lean=True)
    result = to_dict(triage(tmp_path / "c.elf"))
    assert result["page"]["owner"]["object"]["allocated"] is True
    assert (
        to_dict(triage(tmp_path / "c.elf", {name: "yes"}))["page"]["owner"]["object"]["allocated"]
        is None
    )


FOREIGN = Path(__file__).parent / "hardware" / "arm64-4k-twice-sysrq.elf.zst"


@pytest.mark.parametrize("name", ["ghes_estatus_pool", "edac_core"])
def test_nonsense_of_records(name: str) -> None:
    """Records and places that are none are not believed, whoever claims them."""
    good = triage(FOREIGN)
    claims = [*NONSENSE, [["a", "b"]], [[5, "zz"]], [[5, "00" * 20]], [[1 << 70, ""]]]
    claims += [{"why": 5}, {"mc_devices": 5}, {"mc_devices": 5, "layout": {}}, {"why": None}]
    for claim in claims:
        result = triage(FOREIGN, {name: json.loads(json.dumps(claim))})
        rows = [row for row in result.not_checked if "unexpected" in row.why]
        assert not rows, (claim, rows)
        assert len(result.hardware_errors) <= len(good.hardware_errors)

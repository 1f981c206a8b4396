"""The shipped fixtures, end to end: real dumps in, the golden reports out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import drgn
import pytest
import zstandard

from mftriage.render import FORMATS, render
from tests.refresh import FIXTURES, golden, triage_of

EXPECTED = {
    "x86_64-sysctl-dentry": ("0x1741", "0x17413c0", "mce"),
    "arm64-ghes-dentry": ("0x419a5", "0x419a5780", "ghes"),
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mftriage", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_answer(fixture: Path) -> None:
    triage = triage_of(fixture)
    pfn, address, source = EXPECTED[fixture.name]
    assert triage.verdict.kind == "unrecoverable-panic"
    assert triage.page is not None and triage.page.owner is not None
    assert (triage.page.pfn, triage.page.physical_address) == (pfn, address)
    assert (triage.page.owner.kind, triage.page.owner.slab_cache) == ("slab", "dentry")
    assert triage.page.owner.object is not None
    assert triage.page.owner.object.type == "struct dentry"
    assert triage.page.content_in_dump is False
    assert triage.dump.symbols == "btf"
    assert [(r.source, r.physical_address) for r in triage.hardware_errors] == [(source, address)]
    assert [p.pfn for p in triage.poisoned_pages] == [pfn]
    assert triage.num_poisoned_pages == 1
    assert triage.panic is not None and triage.panic.trace


@pytest.mark.parametrize("fmt", list(FORMATS))
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_golden(fixture: Path, fmt: str) -> None:
    rendered = render(triage_of(fixture), fmt)
    assert rendered == golden(fixture, fmt).read_text(encoding="utf-8"), "run: make fixtures"


@pytest.mark.parametrize("name", ["again.vmcore", "again.elf.zst"])
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_capsule_of_a_capsule_gives_the_same(fixture: Path, name: str, tmp_path: Path) -> None:
    again = tmp_path / name
    done = run("capsule", fixture / "capsule.elf.zst", "-o", again)
    assert done.returncode == 0, done.stderr
    assert again.stat().st_size <= 4_000_000
    first = json.loads(run("analyze", fixture / "capsule.elf.zst", "-f", "json").stdout)
    second = json.loads(run("analyze", again, "-f", "json").stdout)
    for result in (first, second):
        for key in ("path", "size_bytes", "format"):
            del result["dump"][key]
    assert first == second


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_stock_drgn_opens_a_capsule(fixture: Path, tmp_path: Path) -> None:
    elf = tmp_path / "capsule.elf"
    with (fixture / "capsule.elf.zst").open("rb") as source, elf.open("wb") as target:
        zstandard.ZstdDecompressor().copy_stream(source, target)
    lean = tmp_path / "lean.vmcore"
    assert run("capsule", fixture / "capsule.elf.zst", "--lean", "-o", lean).returncode == 0
    assert lean.stat().st_size <= 150_000
    for core in (elf, lean):
        program = drgn.Program()
        program.set_core_dump(core)
        assert b"OSRELEASE=7.3.4" in program["VMCOREINFO"].string_()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_cut_dump(share: float, tmp_path: Path) -> None:
    whole = (FIXTURES[0] / "capsule.elf.zst").read_bytes()
    elf = zstandard.ZstdDecompressor().decompressobj().decompress(whole)
    cut = tmp_path / "vmcore"
    cut.write_bytes(elf[: int(len(elf) * share)])
    done = run("analyze", cut, "-f", "json")
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 3), done.stderr
    if done.returncode == 0:
        result = json.loads(done.stdout)
        assert result["dump"]["complete"] is False
        assert result["not_checked"]
    else:
        assert len(done.stderr.strip().splitlines()) == 2


def test_not_a_dump(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello, this is not a dump at all\n")
    for path in (text, tmp_path, tmp_path / "missing"):
        done = run("analyze", path)
        assert done.returncode == 3
        assert "try: " in done.stderr and "Traceback" not in done.stderr


def test_version_and_rules() -> None:
    assert run("--version").stdout.startswith("mftriage ")
    listed = run("explain").stdout
    assert "sysctl-panic" in listed
    assert "mm/memory-failure.c" in run("explain", "sysctl-panic").stdout

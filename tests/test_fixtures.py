"""The shipped fixtures, end to end: real dumps in, the golden reports out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import drgn
import pytest
import zstandard

from fixtures.lab.accuracy import without_types
from fixtures.lab.compare import compare
from fixtures.lab.gallery import (
    FIXTURES,
    ROOT,
    expected_text,
    fleet_reports,
    golden,
    triage_of,
    truth_of,
)
from fixtures.lab.kept import KEPT
from mftriage.codec import from_json
from mftriage.render import FORMATS, render

# One fixture of each architecture where one is enough: cutting a full capsule takes seconds.
PAIR = [f for f in FIXTURES if f.name in ("x86_64-dentry", "arm64-dentry")]
MEGABYTES = 40


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mftriage", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_answer_is_the_expected_one_and_true(fixture: Path) -> None:
    triage = triage_of(fixture)
    held = (fixture / "expected.json").read_text(encoding="utf-8")
    assert expected_text(triage) == held, "run: make refresh"
    assert triage.dump.symbols == "btf"
    assert all(a.mark == "right" for a in compare(triage, truth_of(fixture)))


def test_fixtures_are_the_kept_cases_and_small() -> None:
    assert [f.name for f in FIXTURES] == sorted(KEPT)
    size = sum(p.stat().st_size for f in FIXTURES for p in f.iterdir())
    assert size <= MEGABYTES << 20
    assert all((f / "README.md").read_text().count("\n") == 1 for f in FIXTURES)


@pytest.mark.parametrize("fmt", list(FORMATS))
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.name)
def test_golden(fixture: Path, fmt: str) -> None:
    rendered = render(triage_of(fixture), fmt)
    assert rendered == golden(fixture, fmt).read_text(encoding="utf-8"), "run: make refresh"


@pytest.mark.parametrize("name", ["again.vmcore", "again.elf.zst"])
@pytest.mark.parametrize("fixture", PAIR, ids=lambda f: f.name)
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


@pytest.mark.parametrize("fixture", PAIR, ids=lambda f: f.name)
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
        assert truth_of(fixture)["kernel"].encode() in program["VMCOREINFO"].string_()


@pytest.mark.parametrize(
    "name", ["x86_64-bookworm-load-in-kernel", "x86_64-trixie-bit-flip", "arm64-external-abort-fnv"]
)
def test_later_crash_is_tied_to_the_page_without_types(name: str) -> None:
    triage = without_types(ROOT / "fixtures" / name / "capsule.elf.zst")
    assert triage.dump.symbols == "vmcoreinfo"
    assert triage.verdict.kind == "delayed-crash"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_cut_dump(share: float, tmp_path: Path) -> None:
    whole = (PAIR[0] / "capsule.elf.zst").read_bytes()
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


def test_golden_fleet() -> None:
    triages = {f.name: from_json(golden(f, "json").read_text(encoding="utf-8")) for f in FIXTURES}
    for path, text in fleet_reports(triages).items():
        assert path.read_text(encoding="utf-8") == text, "run: make refresh"

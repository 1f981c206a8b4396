"""What is passed over, and what has to be looked at."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from mftriage.fleet.kind import claims, companions, something_else
from tests.craft import ET_EXEC, FIXTURES, ROOT, X86_INFO, elf_core, kdump, note

CORE = elf_core({0x1000: bytes(4096)}, note("VMCOREINFO", 0, X86_INFO))
LOG = b"[    0.000000] Linux version 7.3.4\n"


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("README", b"dumps of the fleet\n", "a document, by its name"),
        ("vmcore.sha256", b"0123  vmcore\n", "a checksum, by its name"),
        ("SHA256SUMS", b"0123  vmcore\n", "a checksum, by its name"),
        (".vmcore.Xa31", CORE, "hidden, by its name"),  # rsync is not done with it
        ("notes.tar.xz", b"", "an archive, by its name"),
        ("vmlinux-7.3.4", elf_core(kind=ET_EXEC), "a kernel's file, by its name"),
        ("kernel", elf_core(kind=ET_EXEC), "an ELF file but no core, by its content"),
        ("x", bytes(257) + b"ustar" + bytes(250), "an archive, by its content"),
        ("x", b"PK\3\4....", "an archive, by its content"),
        ("page", b"<!DOCTYPE html><p>panic", "a document, by its content"),
        ("result", b'{"schema_version": 1}', "JSON, by its content"),
        ("result.json.gz", gzip.compress(b'[{"a": 1}]', mtime=0), "JSON, by its content"),
    ],
)
def test_plainly_something_else(tmp_path: Path, name: str, data: bytes, what: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert something_else(path, name) == what


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("anything", CORE),
        ("vmcore.zst", (FIXTURES / "x86_64-anon" / "capsule.elf.zst").read_bytes()),
        ("host", kdump({1: bytes(4096)})),
        ("vmcore", elf_core(kind=ET_EXEC)),  # a bit of its header may have flipped
        ("vmcore", b""),
        ("noise", struct.pack("<64I", *range(7, 71))),
        ("zeros.gz", gzip.compress(bytes(100_000), mtime=0)),
        ("dmesg.txt", LOG),
        ("journal.json", b'{"_TRANSPORT":"kernel","MESSAGE":"Linux version 7.3.4"}\n'),
        ("host7", b'[{"__REALTIME_TIMESTAMP":"1","MESSAGE":"x"}]'),
    ],
)
def test_to_be_looked_at(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert something_else(path, name) is None


@pytest.mark.parametrize(
    "report",
    [path for path in sorted(ROOT.glob("reports/*")) if path.stem != "fleet"],
    ids=lambda path: path.name,
)
def test_our_own_reports_are_no_logs(report: Path, tmp_path: Path) -> None:
    """They quote the kernel's lines, and would be analysed in turn."""
    unnamed = tmp_path / "x"
    unnamed.write_bytes(report.read_bytes())
    assert report.suffix == ".md" or something_else(unnamed, "x") is not None
    assert something_else(report, report.name) is not None


def test_what_can_not_be_read_is_not_passed_over(tmp_path: Path) -> None:
    assert something_else(tmp_path / "gone", "gone") is None


def test_names_that_claim_to_be_a_kernels() -> None:
    assert all(
        map(claims, ("a/vmcore", "dump.2026", "vmcore-dmesg.txt", "kern.log.1", "a/messages"))
    )
    assert not any(map(claims, ("notes.txt", "vmcore/notes", "readme")))


def test_logs_saved_with_a_dump() -> None:
    assert companions(["vmcore", "vmcore-dmesg.txt", "kexec-dmesg.log"]) == {
        "vmcore-dmesg.txt": {"vmcore"},
        "kexec-dmesg.log": {"vmcore"},
    }
    assert companions(["dump.1", "dmesg.1", "dump.2", "dmesg.2", "dmesg.3"]) == {
        "dmesg.1": {"dump.1"},
        "dmesg.2": {"dump.2"},
    }
    assert companions(["host1.vmcore", "dmesg.txt"]) == {}
    assert companions(["vmcore-dmesg.txt", "notes"]) == {}
    many = [f"{kind}.{number}" for kind in ("vmcore", "dmesg") for number in range(5000)]
    assert len(companions(many)["dmesg.0"]) == 5000

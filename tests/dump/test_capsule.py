"""The evidence capsule: a core that stock drgn opens, with the pages that were read and no others."""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path

import drgn
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mftriage.capsule import write
from mftriage.codec import to_dict
from mftriage.dump import open_dump
from mftriage.dump.capsule import (
    NOTE_NAME,
    Contents,
    Note,
    Sidecar,
    read_sidecar,
    sidecar_note,
    write_capsule,
)
from mftriage.errors import UsageError
from mftriage.kernel.memmap import MemoryMap
from mftriage.triage import analyze
from tests import craft

RANDOM = random.Random(5)
NOISE = RANDOM.randbytes(craft.PAGE)  # does not compress: stored as it is


def contents(
    pages: dict[int, bytes], arch: str = "x86_64", sidecar: Sidecar | None = None
) -> Contents:
    info = craft.X86_INFO if arch == "x86_64" else craft.ARM_INFO
    notes = (Note("VMCOREINFO", 0, info), sidecar_note(sidecar or Sidecar(True)))
    return Contents(arch, craft.PAGE, notes, info, "7.3.4-test", pages)


def loads(core: bytes) -> dict[int, bytes]:
    """The pages of an ELF core, by the program headers alone."""
    phoff, count = struct.unpack_from("<Q", core, 32)[0], struct.unpack_from("<H", core, 56)[0]
    pages = {}
    for at in range(phoff, phoff + 56 * count, 56):
        kind, _, offset, _, address, size, _ = struct.unpack_from("<IIQQQQQ", core, at)
        if kind == craft.PT_LOAD:
            for done in range(0, size, craft.PAGE):
                page = core[offset + done : offset + done + craft.PAGE]
                pages[(address + done) // craft.PAGE] = page
    return pages


def plain(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


def stock(path: Path) -> drgn.Program:
    program = drgn.Program()
    program.set_core_dump(path)
    return program


PAGES = st.dictionaries(
    st.integers(0, 1 << 22),
    st.sampled_from((bytes(craft.PAGE), NOISE, b"\x5a" * craft.PAGE, NOISE[:2000] + bytes(2096))),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(PAGES, st.sampled_from(("x86_64", "arm64")), st.sampled_from((".vmcore", ".zst")))
def test_every_page_comes_back(
    tmp_path: Path, pages: dict[int, bytes], arch: str, suffix: str
) -> None:
    path = tmp_path / f"c{suffix}"
    write_capsule(path, contents(pages, arch), force=True)
    dump = open_dump(path)
    assert (dump.arch, dump.complete, dump.sidecar.is_capsule) == (arch, True, True)
    for pfn, page in pages.items():
        assert dump.memory.page(pfn) == page
        assert not dump.memory.holds(pfn + 1) or pfn + 1 in pages
    dump.close()
    if suffix == ".vmcore":
        program = stock(path)
        for pfn, page in pages.items():
            assert program.read(pfn * craft.PAGE, craft.PAGE, True) == page
    else:
        assert loads(plain(path)) == pages


def test_a_large_host_s_bitmap_does_not_outweigh_the_pages(tmp_path: Path) -> None:
    """Page frame 2**28 is the end of 1 TiB: its bitmaps alone would be 64 MiB."""
    path = tmp_path / "c.vmcore"
    write_capsule(path, contents({1: NOISE, 1 << 28: NOISE}))
    assert path.stat().st_size < 100_000
    assert path.read_bytes().startswith(b"\x7fELF")
    assert stock(path).read(craft.PAGE << 28, 64, True) == NOISE[:64]


def test_sidecar_comes_back(tmp_path: Path) -> None:
    findings = {"poisoned": [[1, 2], None], "mapping:0x1": None, "ü": "\x1b"}
    path = tmp_path / "c.vmcore"
    write_capsule(path, contents({1: NOISE}, sidecar=Sidecar(True, False, findings)))
    dump = open_dump(path)
    assert dump.sidecar == Sidecar(True, False, findings)
    dump.close()


@pytest.mark.parametrize(
    "desc",
    [b"", b"{", b"[]", b"{}", b'{"findings": 3}', b"\xff\xfe", b"[" * 100_000, b'{"findings":{}'],
)
def test_damaged_sidecar_is_an_empty_one(desc: bytes) -> None:
    found = read_sidecar([Note(NOTE_NAME, 1, desc)])
    assert found.findings == {}


def test_exists(tmp_path: Path) -> None:
    path = tmp_path / "c.vmcore"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        write_capsule(path, contents({1: NOISE}))
    assert path.read_bytes() == b"mine"
    write_capsule(path, contents({1: NOISE}), force=True)
    assert stock(path)
    assert os.listdir(tmp_path) == ["c.vmcore"]


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure half-way leaves neither a capsule nor a temporary file."""
    broken = contents({1: NOISE})._replace(arch="riscv64")
    with pytest.raises(KeyError):
        write_capsule(tmp_path / "c.vmcore", broken)
    assert os.listdir(tmp_path) == []
    with pytest.raises(UsageError) as caught:
        write_capsule(tmp_path / "missing" / "c.vmcore", contents({1: NOISE}))
    assert caught.value.remedy


def test_mode_is_the_user_s(tmp_path: Path) -> None:
    """A temporary file is made for its owner alone; a capsule is a file like any other."""
    before = os.umask(0o027)
    try:
        write_capsule(tmp_path / "c.vmcore", contents({1: NOISE}))
    finally:
        os.umask(before)
    assert (tmp_path / "c.vmcore").stat().st_mode & 0o777 == 0o640


# Real analyses


def with_secret(core: Path, target: Path, secret: bytes, pfn: int | None = None) -> int:
    """A copy of an ELF core with one more page, which no question leads to; its pfn."""
    raw = bytearray(core.read_bytes())
    known = loads(bytes(raw))
    if pfn is None:
        pfn = next(pfn for pfn in range(0x60000, 0x90000) if pfn not in known)
    assert pfn not in known
    at = -(-len(raw) // craft.PAGE) * craft.PAGE
    raw = raw.ljust(at, b"\0") + secret
    phoff, count = struct.unpack_from("<Q", raw, 32)[0], struct.unpack_from("<H", raw, 56)[0]
    table = bytes(raw[phoff : phoff + 56 * count])
    table += struct.pack(
        *("<IIQQQQQQ", craft.PT_LOAD, 7, at, 0, pfn * craft.PAGE, len(secret), len(secret), 4096)
    )
    struct.pack_into("<Q", raw, 32, len(raw))  # the program headers move to the end
    struct.pack_into("<H", raw, 56, count + 1)
    target.write_bytes(bytes(raw) + table)
    return pfn


@pytest.mark.parametrize(
    ("machine", "lean"), [("x86_elf", False), ("x86_elf", True), ("arm_elf", True)]
)
def test_only_what_was_read(
    machine: str,
    lean: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compressor = zstandard.ZstdCompressor
    if not lean:  # the size is not looked at, so let it be quick
        monkeypatch.setattr(zstandard, "ZstdCompressor", lambda level: compressor(level=1))
    secret = (b"SECRET%r" % machine).ljust(craft.PAGE, b"!")
    source = tmp_path / "vmcore"
    pfn = with_secret(request.getfixturevalue(machine), source, secret)
    before = loads(source.read_bytes())
    assert before[pfn] == secret
    analysis = analyze(source)
    read = set(analysis.dump.memory.pfns)
    path = tmp_path / "case.elf.zst"
    write(analysis, path, lean=lean)
    assert set(analysis.dump.memory.pfns) == read  # cutting adds nothing
    analysis.dump.close()
    after = loads(plain(path))
    assert after and pfn not in after and secret[:32] not in plain(path)
    assert all(page == before[pfn] for pfn, page in after.items())
    if lean:
        assert set(after) <= read
        assert path.stat().st_size <= 150_000
    else:
        assert read <= set(after)


@pytest.mark.parametrize("machine", ["x86_elf", "arm_elf"])
def test_lean_capsule_keeps_the_answer(
    machine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    analysis = analyze(request.getfixturevalue(machine))
    whole = to_dict(analysis.triage)
    path = tmp_path / "lean.vmcore"
    write(analysis, path, lean=True)
    analysis.dump.close()
    again = analyze(path)
    again.dump.close()
    lean = to_dict(again.triage)
    if lean["dump"]["symbols"] == "vmcoreinfo":
        assert any(row["what"] == "types and symbols" for row in lean["not_checked"])
    for key in ("verdict", "page"):
        assert lean[key] is not None
    assert lean["verdict"]["kind"] == whole["verdict"]["kind"]
    assert lean["page"]["pfn"] == whole["page"]["pfn"]
    assert lean["page"]["owner"]["kind"] == whole["page"]["owner"]["kind"]
    assert lean["memory_failures"] == whole["memory_failures"]


def test_a_capsule_is_marked_as_one(x86_elf: Path) -> None:
    dump = open_dump(x86_elf)
    assert dump.format == "capsule" and dump.sidecar.findings
    (note,) = [n for n in dump.notes if n.name == NOTE_NAME]
    assert set(json.loads(note.desc)) == {"findings", "complete"}
    dump.close()


@pytest.mark.parametrize("kind", ["lru", "kernel"])
def test_user_pages_never_go_in(kind: str, x86_elf: Path, tmp_path: Path) -> None:
    """A page that was read, and whose struct page says that user space has it (PG_lru, no type)."""
    source = tmp_path / "vmcore"
    pfn = craft.HIT ^ 1  # its struct page lies beside that of the page that was hit
    with_secret(x86_elf, source, b"S" * craft.PAGE, pfn)
    analysis = analyze(source)
    memory_map = MemoryMap(analysis.kernel)
    analysis.dump.memory.pfns.clear()
    page = memory_map.read(pfn)
    assert page is not None and not page.is_tail
    at = page.address % craft.PAGE
    raw = analysis.kernel.program.read(page.address, memory_map.struct_size)
    memory = analysis.dump.memory
    (holder,) = [p for p in memory.pfns if memory.page(p)[at : at + len(raw)] == raw]
    lru = next(bit for bit, name in memory_map.flag_names.items() if name == "lru")
    info = analysis.dump.vmcoreinfo
    words = bytearray(raw)
    struct.pack_into("<Q", words, info.offset("page.flags") or 0, 1 << lru if kind == "lru" else 0)
    struct.pack_into("<I", words, info.offset("page._mapcount") or 0, 0xFFFFFFFF)
    content = memory.page(holder)
    analysis.dump.close()
    core = source.read_bytes()
    assert core.count(content) == 1
    source.write_bytes(core.replace(content, content[:at] + words + content[at + len(words) :]))
    again = analyze(source)
    again.dump.memory.read(pfn * craft.PAGE, 8)
    write(again, tmp_path / "lean.elf.zst", lean=True)
    again.dump.close()
    assert (pfn in loads(plain(tmp_path / "lean.elf.zst"))) is (kind == "kernel")

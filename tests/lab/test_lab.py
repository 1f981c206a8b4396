"""The lab's own logic, without a guest."""

from __future__ import annotations

import gzip
import inspect
import lzma
import socket
import stat
import struct
import threading
from pathlib import Path
from uuid import UUID

import pytest
import zstandard

from fixtures.lab import cper, fetch
from fixtures.lab.cases import CASES, Case
from fixtures.lab.compare import compare
from fixtures.lab.elf import leave_out, straighten
from fixtures.lab.gallery import FIXTURES, triage_of, truth_of
from fixtures.lab.gdb import Debugger
from fixtures.lab.initramfs import Entry, cpio, module_data
from fixtures.lab.inject import INJECTORS
from fixtures.lab.keep import line
from fixtures.lab.kept import FULL, KEPT, LEAN
from fixtures.lab.kernels import FLAVOURS
from fixtures.lab.later import LATER
from fixtures.lab.pick import KINDS, Victim
from fixtures.lab.truth import Outcome, outcome, truth, verdicts

# the registries


@pytest.mark.parametrize("name", CASES)
def test_every_row_names_what_there_is(name: str) -> None:
    case = CASES[name]
    flavour = FLAVOURS[case.flavour]
    assert name.startswith(flavour.arch + "-")
    assert case.kind is None or case.kind in KINDS
    assert case.by is None or case.by in INJECTORS
    assert case.then is None or case.then in LATER
    assert case.by or case.then, "something must happen"
    if case.kind is None and case.by:
        assert not INJECTORS[case.by].memory
    if flavour.arch == "arm64":
        assert not (case.by or "").startswith("mce")


def test_kept_cases_exist_and_are_enough() -> None:
    assert set(KEPT) <= set(CASES)
    assert not set(FULL) & set(LEAN)
    assert len(KEPT) >= 16
    assert {FLAVOURS[CASES[name].flavour].arch for name in KEPT} == {"x86_64", "arm64"}
    assert len({FLAVOURS[CASES[name].flavour].suite for name in KEPT}) >= 3


def test_every_simulation_is_said() -> None:
    assert all(i.words and i.simulated for i in INJECTORS.values())
    assert all(later.words for later in LATER.values())
    assert all(later.simulated for later in LATER.values() if later.causes == "page")


# the archive


def test_uris_of_apt() -> None:
    text = (
        "Reading package lists...\n"
        "'http://deb.debian.org/debian/pool/main/l/linux/linux-binary-7.3.4%2bdeb13-cloud-amd64_7.3.4-1%7ebpo13%2b1_amd64.deb'"
        " linux-binary-7.3.4+deb13-cloud-amd64_7.3.4-1~bpo13+1_amd64.deb 13604064 SHA256:00\n"
        "'http://deb.debian.org/debian/pool/main/q/qemu/x.deb' qemu-system-x86_1%3a11.1.3+ds-1_amd64.deb 1 SHA256:00\n"
    )
    assert fetch.parse_uris(text) == [
        ("linux-binary-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"),
        ("qemu-system-x86", "1:11.1.3+ds-1"),
    ]


# the initramfs


def test_cpio_can_be_read_back() -> None:
    raw = cpio([Entry("init", stat.S_IFREG | 0o755, b"abc"), Entry("d", stat.S_IFDIR, b"")])
    at, found = 0, {}
    while True:
        assert raw[at : at + 6] == b"070701" and at % 4 == 0
        fields = [int(raw[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        name = raw[at + 110 : at + 109 + length].decode()
        data = at + 110 + length + (-(at + 110 + length) % 4)
        if name == "TRAILER!!!":
            break
        found[name] = (fields[1], raw[data : data + size])
        at = data + size + (-(data + size) % 4)
    assert found == {"init": (stat.S_IFREG | 0o755, b"abc"), "d": (stat.S_IFDIR, b"")}


def test_modules_lose_their_compression(tmp_path: Path) -> None:
    for name, data in (
        ("a.ko", b"elf"),
        ("a.ko.xz", lzma.compress(b"elf")),
        ("a.ko.zst", zstandard.ZstdCompressor().compress(b"elf")),
    ):
        (tmp_path / name).write_bytes(data)
        assert module_data(tmp_path / name) == b"elf"
    assert gzip.decompress(gzip.compress(cpio([]), 1)) == cpio([])


# firmware records


def test_memory_record_is_laid_out_as_the_specification_says() -> None:
    where = cper.location("a case")
    raw = cper.memory_error(0x419A5780, where, "recoverable")
    status, _, _, length, severity = struct.unpack_from("<5I", raw)
    assert (status, length, severity) == (0x11, len(raw) - 20, 0)
    assert raw[20:36] == UUID("a5bc1114-6f64-4ede-b863-3e83ed7c83b1").bytes_le
    section = raw[20 + 72 :]
    assert len(section) == 80
    assert struct.unpack_from("<Q", section, 16)[0] == 0x419A5780
    assert section[72] == 3  # multi-bit ECC
    assert raw[20 + 44 : 20 + 64].rstrip(b"\0").decode() == where.fru
    assert cper.location("a case") == where != cper.location("another")


def test_pcie_record_has_the_section_s_size() -> None:
    raw = cper.pcie_error("fatal")
    assert len(raw) == 20 + 72 + 208
    assert struct.unpack_from("<I", raw, 16)[0] == 1


# QEMU's ELF


def test_straighten_moves_the_program_headers_up(tmp_path: Path) -> None:
    path = tmp_path / "core"
    programs = bytes(range(56)) * 2
    header = bytearray(64)
    header[:4] = b"\x7fELF"
    struct.pack_into("<Q", header, 32, 192)
    struct.pack_into("<HHH", header, 52, 8, 56, 2)
    path.write_bytes(bytes(header) + bytes(128) + programs + b"memory")
    straighten(path)
    raw = path.read_bytes()
    assert struct.unpack_from("<Q", raw, 32)[0] == 64
    assert struct.unpack_from("<H", raw, 52)[0] == 64
    assert raw[64 : 64 + 112] == programs
    assert raw.endswith(b"memory")


def test_leave_out_keeps_every_other_page(tmp_path: Path) -> None:
    source, target = tmp_path / "core", tmp_path / "out"
    memory = b"".join(bytes([i]) * 4096 for i in range(4))
    note = struct.pack("<IIQQQQQQ", 4, 0, 4096, 0, 0, 8, 8, 4)
    load = struct.pack("<IIQQQQQQ", 1, 7, 8192, 0, 0x10000, len(memory), len(memory), 0)
    header = bytearray(64)
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HHH", header, 52, 64, 56, 2)
    source.write_bytes(
        (bytes(header) + note + load).ljust(4096, b"\0") + b"the note".ljust(4096, b"\0") + memory
    )
    leave_out(source, target, {0x12, 0x99}, 4096)
    raw = target.read_bytes()
    count = struct.unpack_from("<H", raw, 56)[0]
    found = {}
    for i in range(count):
        kind, _, offset, _, physical, size, _, _ = struct.unpack_from("<IIQQQQQQ", raw, 64 + 56 * i)
        found[kind, physical] = raw[offset : offset + size]
    assert found == {(4, 0): b"the note", (1, 0x10000): memory[:8192], (1, 0x13000): memory[12288:]}


# gdb's protocol


def test_debugger_against_a_stub(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    answers = {"?": "T05core:01;", "Z3,1000,8": "OK", "c": "T05thread:02;rwatch:1000;"}
    asked: list[str] = []

    def serve() -> None:
        link, _ = server.accept()
        buffer = b""
        while data := link.recv(4096):
            buffer += data
            while b"#" in buffer and len(buffer) >= buffer.index(b"#") + 3:
                text = buffer[buffer.index(b"$") + 1 : buffer.index(b"#")].decode()
                buffer = buffer[buffer.index(b"#") + 3 :]
                asked.append(text)
                reply = answers.get(text, "OK").encode()
                link.sendall(b"$" + reply + b"#%02x" % (sum(reply) & 255))

    threading.Thread(target=serve, daemon=True).start()
    debugger = Debugger(path)
    stop = debugger.watch_reads(0x1000, 8)
    debugger.go()
    assert debugger.caught() == 1
    assert debugger.ask(stop) == "OK"
    debugger.detach()
    assert asked == ["?", "Z3,1000,8", "c", "z3,1000,8", "D"]


# truth

_CONSOLE = """\
[    9.1] Memory failure: 0x13b2: unhandlable page.
[    9.2] Memory failure: 0x13b2: recovery action for reserved kernel page: Ignored
[    9.3] Kernel panic - not syncing: Memory failure: 0x13b2: unrecoverable pagge
[    9.9] ---[ end Kernel panic - not syncing: Memory failure: 0x13b2: unrecoverable page ]---
"""
_VICTIM = Victim(physical=0x13B2040, owner="slab", what="dentry", slab_cache="dentry")


def test_outcome_of_a_console() -> None:
    seen = outcome(_CONSOLE)
    assert seen.panic == "Memory failure: 0x13b2: unrecoverable page"
    assert seen.failures == (
        {"pfn": "0x13b2", "page_type": "reserved kernel page", "action": "ignored"},
    )
    assert "Memory failure: 0x13b2: unhandlable page." in seen.said
    assert outcome("all is well").panic is None
    assert outcome("Kernel  panic - not syncing: Fatal machine check").panic


@pytest.mark.parametrize(
    ("case", "panic", "left", "right"),
    [
        ({"by": "mce"}, "Memory failure: 0x13b2: unrecoverable page", True, "unrecoverable-panic"),
        ({"by": "mce-amd"}, "Fatal local machine check", False, "fatal-hardware-error"),
        ({"by": "mce-timer"}, "Fatal machine check", False, "hardware-not-memory"),
        ({"by": "mce", "then": "bit-flip"}, "Fatal exception", True, "delayed-crash"),
        ({"by": "mce", "then": "sysrq"}, "sysrq triggered crash", False, "unrelated"),
        ({"by": "mce", "then": "sysrq"}, "sysrq triggered crash", True, "unrelated"),
        ({"by": "mce", "then": "nothing"}, None, True, "no-crash"),
        ({"then": "other-bit-flip"}, "Fatal exception", False, "unrelated"),
    ],
)
def test_verdicts(case: dict[str, str], panic: str | None, left: bool, right: str) -> None:
    row = Case(flavour="x86_64-backports", kind="dentry", **case)  # type: ignore[arg-type]
    failures = ({"pfn": "0x13b2", "page_type": "x", "action": "ignored"},) if left else ()
    seen = Outcome(panic=panic, failures=failures, said=())
    found = verdicts(row, _VICTIM, 4096, seen)
    assert found[0] == right
    assert (found == ["unrelated", "possible-delayed-crash"]) == (left and right == "unrelated")


def test_truth_says_what_is_simulated() -> None:
    told = truth(
        "x86_64-dentry",
        CASES["x86_64-dentry"],
        arch="x86_64",
        release="7.3.4",
        page_size=4096,
        victim=_VICTIM,
        console=_CONSOLE,
        taken="QEMU",
    )
    assert told["victim"]["pfn"] == "0x13b2"
    assert told["page_is_named_in_the_dump"] is True
    assert told["record"] == {
        "source": "mce",
        "is_memory": True,
        "physical_address": "0x13b2040",
    }
    assert any("QEMU guest" in text for text in told["simulated"])
    assert "dentry (page 0x13b2)" in line(told)


# comparing


def test_compare_sees_a_wrong_answer() -> None:
    fixture = next(f for f in FIXTURES if f.name == "x86_64-dentry")
    triage, told = triage_of(fixture), truth_of(fixture)
    assert {a.mark for a in compare(triage, told)} == {"right"}
    told["verdicts"], told["panic"] = ["no-crash"], "something else"
    told["victim"]["owner"] = "anon"
    wrong = {a.question for a in compare(triage, told) if a.mark == "wrong"}
    assert wrong == {"verdict", "panic", "owner"}


def test_every_kind_and_way_is_documented() -> None:
    import fixtures.lab.later as later
    import fixtures.lab.pick as pick

    assert inspect.getdoc(later) and inspect.getdoc(pick)

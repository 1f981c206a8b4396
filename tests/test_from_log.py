"""A log alone: what is one and what is not, however it comes, and what is made of it."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from mftriage.log import split_boots
from mftriage.logfile import open_log
from mftriage.model import Triage
from mftriage.records.digest import Digest
from mftriage.records.history import corrected_history
from mftriage.triage import analyze
from tests.craft import ROOT, mftriage, parse_text

ABORT = """\
[88690.478913] [ T593001] {1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 784
[88690.479097] [ T593001] {1}[Hardware Error]: event severity: recoverable
[88690.479282] [ T593001] {1}[Hardware Error]:  Error 0, type: recoverable
[88690.479359] [ T593001] {1}[Hardware Error]:   section_type: memory error
[88690.479424] [ T593001] {1}[Hardware Error]:   physical_address: 0x00000040272d5080
[88690.479680] [ T593001] {1}[Hardware Error]:   error_type: 3, multi-bit ECC
[88690.498473] [ T593001] Memory failure: 0x40272d: unhandlable page.
[88690.498619] [ T593001] Memory failure: 0x40272d: recovery action for get hwpoison page: Ignored
[88757.847126] [ T640437] Internal error: synchronous external abort: 0000000096000410 [#1]  SMP
[88758.061075] [ T640437] pc : d_lookup+0x5c/0x220
[88758.185170] [ T640437] x8 : ffff003fa72d5088 x7 : 0000000000000000 x6 : ffff800138cafd58
"""
SYSCTL = """\
[ 1096.480523] Memory failure: 0x2: recovery action for reserved kernel page: Ignored
[ 1096.480751] Kernel panic - not syncing: Memory failure: 0x2: unrecoverable page
[ 1096.480774] Call Trace:
[ 1096.480778]  <TASK>
[ 1096.480925]  hwpoison_inject+0x3a6/0x3f0 [hwpoison_inject]
"""
FATAL = """\
mce: [Hardware Error]: CPU 296: Machine Check Exception: f Bank 1: bd80000000100134
mce: [Hardware Error]: RIP 10:<ffffffff821b9776> {__get_user_nocheck_4+0x6/0x20}
mce: [Hardware Error]: TSC 411a93533ed ADDR 346a8730040 MISC 86
mce: [Hardware Error]: PROCESSOR 0:a06d0 TIME 1706000767 SOCKET 1 APIC 211 microcode 80001490
mce: [Hardware Error]: Machine check: Data load in unrecoverable area of kernel
"""
PCIE_END = """\
[   71.1] {1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 5
[   71.1] {1}[Hardware Error]: event severity: fatal
[   71.1] {1}[Hardware Error]:  Error 0, type: fatal
[   71.1] {1}[Hardware Error]:   section_type: PCIe error
"""
UMC = """\
[  514.96] mce: [Hardware Error]: Machine check events logged
[  515.01] [Hardware Error]: Deferred error, no action required.
[  515.02] [Hardware Error]: CPU:67 (19:11:1) MC21_STATUS[-|-|-|AddrV|-|-|SyndV|UECC|Deferred|-|Scrub]: 0x942031000400011b
[  515.03] [Hardware Error]: Error Addr: 0x0000000005dc2a00
[  515.04] [Hardware Error]: IPID: 0x0000109600650f00, Syndrome: 0x9a4a00000b800008
[  515.04] [Hardware Error]: Unified Memory Controller Ext. Error Code: 0, DRAM ECC error.
"""
OOPS = "[ 9.5] BUG: unable to handle page fault for address: ffff888001741123\n"


def of(tmp_path: Path, text: str) -> Triage:
    path = tmp_path / "dmesg.txt"
    path.write_text(text)
    return analyze(path).triage


@pytest.mark.parametrize(
    ("text", "kind", "confidence", "pfn"),
    [
        (ABORT, "delayed-crash", "high", "0x40272d"),
        ("\n".join(ABORT.splitlines()[6:10]), "delayed-crash", "medium", "0x40272d"),
        (SYSCTL, "unrecoverable-panic", "certain", "0x2"),
        (FATAL, "fatal-hardware-error", "certain", "0x346a8730"),
        (PCIE_END, "hardware-not-memory", "medium", None),
        (UMC, "no-crash", "high", None),
        (OOPS, "unrelated", "high", None),
        ("[1.0] BERT: Error records from previous boot:\n[1.0] [Hardware Error]: event severity: fatal\n[1.0] [Hardware Error]:   section_type: memory error\n" + OOPS, "unrelated", "high", None),
        ("[ 3.1] kdump[486]: saving vmcore-dmesg.txt to /x\n[ 3.2] EDAC MC0: 1 UE unknown on unknown memory ( page:0x1 offset:0x0 grain:1 - APEI location: )\n", "inconclusive", "low", None),
    ],
)  # fmt: skip
def test_verdicts(tmp_path: Path, text: str, kind: str, confidence: str, pfn: str | None) -> None:
    triage = of(tmp_path, text)
    assert (triage.verdict.kind, triage.verdict.confidence) == (kind, confidence)
    assert (triage.page.pfn if triage.page else None) == pfn
    assert triage.dump.symbols == "log-only" and triage.dump.format == "log"
    assert any("log alone" in row.why for row in triage.not_checked)


def test_an_injection_by_the_call_trace(tmp_path: Path) -> None:
    assert "injected" in of(tmp_path, SYSCTL).verdict.summary


def test_the_size_of_a_page_is_proved_or_not_known(tmp_path: Path) -> None:
    assert of(tmp_path, ABORT).dump.page_size == 65536
    assert of(tmp_path, FATAL).dump.page_size == 4096
    short = of(tmp_path, "\n".join(ABORT.splitlines()[6:10]))
    assert short.dump.page_size is None
    assert short.page is not None and short.page.physical_address is None


def test_the_last_boot_is_what_the_verdict_is_about(tmp_path: Path) -> None:
    first = SYSCTL + "[    0.000000] Linux version 7.3.4 (x) x86_64\n[   12.0] hello\n"
    triage = of(tmp_path, first)
    assert triage.verdict.kind == "no-crash"
    assert [event.previous_boot for event in triage.memory_failures] == [True]
    triage = of(tmp_path, first + FATAL)
    assert triage.verdict.kind == "fatal-hardware-error"


def test_the_crash_before_the_capture_kernel_counts(tmp_path: Path) -> None:
    text = SYSCTL + "[    0.0] Linux version 7.3.4\n[    3.1] kdump[486]: saving vmcore\n"
    assert of(tmp_path, text).verdict.kind == "unrecoverable-panic"


def test_boots_are_told_apart_by_time() -> None:
    def boots(*lines: str) -> list[int]:
        return [len(boot) for boot in split_boots(parse_text(lines))]

    assert boots("[ 900.0] a", "[ 899.9] b", "[ 901.0] c") == [3]
    assert boots("[ 900.0] a", "[ 0.1] b") == [1, 1]
    assert boots("[ 900.0] a", "[ 500.0] b") == [2]
    assert boots("[ 900.0] Kernel panic - not syncing: x", "[ 500.0] b") == [1, 1]
    assert boots() == [0]


# what is no log


@pytest.mark.parametrize(
    "content",
    [
        b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/sh\n",
        b"Jan  2 01:02:03 host sshd[12]: Memory failure: nothing\n",
        b"\xff\xfe",
        bytes(range(256)) * 300,
        b"\n" * 5000,
        gzip.compress(b"nothing at all\n", mtime=0),
    ],
)
def test_junk_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(content)
    done = mftriage("analyze", path)
    assert done.returncode == 3 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 2 and "not a crash dump" in done.stderr


def piped(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mftriage", "analyze", "-", *arguments]
    return subprocess.run(command, cwd=ROOT, input=data, capture_output=True, check=False)


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
def test_standard_input(pack: Any) -> None:
    done = piped(pack(ABORT.encode()), "-f", "json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"]["kind"] == "delayed-crash"
    assert result["dump"]["path"] == "standard input"


@pytest.mark.parametrize("data", [b"", b"\x7fELF\x02\x01", b"nothing\n", bytes(5000)])
def test_standard_input_that_is_no_log(data: bytes) -> None:
    done = piped(data)
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("gz", gzip.compress), ("xz", lzma.compress), ("zst", zstandard.ZstdCompressor().compress)],
)
def test_packed_files(tmp_path: Path, suffix: str, pack: Any) -> None:
    path = tmp_path / f"dmesg.txt.{suffix}"
    path.write_bytes(pack(ABORT.encode()))
    triage = analyze(path).triage
    assert (triage.dump.format, triage.verdict.kind) == (f"log+{suffix}", "delayed-crash")


def test_a_cut_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "dmesg.txt.gz"
    path.write_bytes(gzip.compress(ABORT.encode() * 2000)[:-200])
    assert analyze(path).triage.dump.complete is False


def test_a_folder_with_nothing_but_a_log(tmp_path: Path) -> None:
    (tmp_path / "vmcore-dmesg.txt").write_text(ABORT)
    assert analyze(tmp_path).triage.verdict.kind == "delayed-crash"


def test_a_log_has_no_capsule(tmp_path: Path) -> None:
    path = tmp_path / "dmesg.txt"
    path.write_text(ABORT)
    done = mftriage("capsule", path, "-o", tmp_path / "x.elf")
    assert done.returncode == 2 and "no memory" in done.stderr


def test_a_log_from_powershell(tmp_path: Path) -> None:
    path = tmp_path / "dmesg.txt"
    path.write_bytes(ABORT.encode("utf-16"))
    assert analyze(path).triage.verdict.kind == "delayed-crash"


@pytest.mark.parametrize("name", ["text", "json", "markdown", "html"])
def test_every_format_shows_a_log(tmp_path: Path, name: str) -> None:
    path = tmp_path / "dmesg.txt"
    path.write_text(ABORT)
    done = mftriage("analyze", path, "-f", name)
    assert done.returncode == 0 and "0x40272d" in done.stdout


# long logs


def test_a_long_log_is_read_in_no_time_and_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "dmesg.txt"
    filler = "[   10.000000] usb 1-1: new high-speed USB device number 3 using xhci_hcd\n"
    with path.open("w") as file:
        file.write(filler * 150_000)
        file.write("[   11.0] Memory failure: 0x1f: recovery action for huge page: Recovered\n")
        file.write(filler.replace("10.", "12.") * 150_000 + FATAL)
    start = time.perf_counter()
    triage = analyze(path).triage
    assert time.perf_counter() - start < 15
    assert triage.verdict.kind == "fatal-hardware-error"
    assert [event.pfn for event in triage.memory_failures] == ["0x1f"]


def test_a_flood_is_counted_and_its_ends_are_kept() -> None:
    lines = (
        f"[{n}.5] EDAC MC0: 2 CE memory read error on DIMM_A1 (channel:0 slot:0 page:{n:#x} offset:0x0 grain:32 syndrome:0x0 -  row:1 col:2)"
        for n in range(1, 9001)
    )
    found = Digest(parse_text(lines)).finish()
    assert (found.corrected[0].place, found.corrected[0].count) == ("DIMM_A1", 18000)
    assert found.corrected[0].same == ("row", "column") and found.corrected[0].per_hour
    assert len(found.errors) < 500 and found.left_out + len(found.errors) == 9000
    assert found.errors[0].time == 1.5 and found.errors[-1].time == 9000.5


def test_one_error_that_three_tell_counts_once() -> None:
    log = (Path(__file__).parent / "records" / "data" / "mce-amd.txt").read_text()
    lines = log.partition("---\n")[2].replace("Deferred error,", "Corrected error,")
    found = Digest(parse_text(lines.replace("UE Cannot", "CE Cannot").splitlines())).finish()
    assert [entry.events for entry in found.corrected] == [1]
    assert corrected_history([]) == ()


def test_a_dump_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"KDUMP   " + bytes(4096))
    assert open_log(tmp_path / "x") is None
    assert open_log(tmp_path / "missing") is None


def test_a_page_that_was_made_of_a_normalized_address_is_told(tmp_path: Path) -> None:
    wrong = "[  515.0] Memory failure: 0x5dc2: recovery action for free buddy page: Recovered\n"
    triage = of(tmp_path, wrong + UMC)
    assert any("normalized" in row.why for row in triage.not_checked)


def test_intel_s_address_counts_where_misc_calls_it_physical(tmp_path: Path) -> None:
    triage = of(tmp_path, FATAL.replace("MISC 86", "MISC 6"))
    assert triage.hardware_errors[0].physical_address is None and triage.page is None

"""Logs of crashes after a failure, as kernels print them: what ties the crash to the page, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mftriage.model import Triage
from mftriage.triage import analyze

PFN = "0x12345a"
IN_PAGE = "ffff9a812345a340"  # of a direct map that begins at 0xffff9a8000000000
ARM_IN_PAGE = "ffff0000e345a340"
X86 = "[    0.0] Linux version 6.12.0-1-amd64 (x@y) #1 SMP\n"
ARM = "[    0.0] Linux version 6.12.0-1-arm64 (x@y) #1 SMP\n[    0.1] Booting Linux on physical CPU 0x0000000000 [0x410fd034]\n[    1.0] swapper pgtable: 4k pages, 48-bit VAs, pgdp=0000000041a1f000\n"  # fmt: skip
IGNORED = f"[   10.0] Memory failure: {PFN}: recovery action for get hwpoison page: Ignored\n"
PANIC = "[  100.2] Kernel panic - not syncing: Fatal exception\n"
WILD = "00badbad00badbad"  # not canonical, and no mark of the kernel's


def registers(r12: str = IN_PAGE, rdi: str = WILD, code: str = "<48> 8b 07") -> str:
    return f"""\
[  100.0] CPU: 1 UID: 0 PID: 7 Comm: find Not tainted 6.12.0-1-amd64 #1
[  100.0] RIP: 0010:d_lookup+0x40/0x90
[  100.0] Code: 0f 1f {code}
[  100.0] RSP: 0018:ffffb0c040013b58 EFLAGS: 00010206
[  100.0] RAX: 0000000000000010 RBX: 0000000000000011 RDI: {rdi}
[  100.0] R10: 0000000000000019 R11: 000000000000001a R12: {r12}
[  100.0] Call Trace:
[  100.0]  <TASK>
[  100.0]  d_lookup+0x40/0x90
[  100.0]  </TASK>
"""


def oops(first: str = f"Oops: general protection fault, probably for non-canonical address 0x{WILD}: 0000 [#1] SMP PTI", **more: str) -> str:  # fmt: skip
    return f"[  100.0] {first}\n{registers(**more)}[  100.1] ---[ end trace 0000000000000000 ]---\n"


def abort(x0: str = ARM_IN_PAGE, pc: str = "d_lookup+0x40/0x90", pstate: str = "60400009") -> str:
    return f"""\
[  100.0] CPU: 1 UID: 0 PID: 7 Comm: find Not tainted 6.12.0-1-arm64 #1
[  100.0] pstate: {pstate} (nZCv daif +PAN -UAO -TCO -DIT -SSBS BTYPE=--)
[  100.0] pc : {pc}
[  100.0] sp : ffff800080d4bb40
[  100.0] x29: ffff800080d4bb40 x28: 000000000000002c x27: 000000000000002b
[  100.0] x5 : {ARM_IN_PAGE} x1 : 0000000000000011 x0 : {x0}
[  100.0] Code: f9400273 (f9400a61)
"""


SEA = "[  100.0] Internal error: synchronous external abort: 0000000096000410 [#1] SMP\n"
SEA_PANIC = "[  100.2] Kernel panic - not syncing: synchronous external abort: Fatal exception\n"
LOCKUP = "[  100.2] Kernel panic - not syncing: softlockup: hung tasks\n"
MCE = """\
[  100.5] mce: [Hardware Error]: CPU 0: Machine Check Exception: f Bank 9: bd80000000000134
[  100.5] mce: [Hardware Error]: RIP 10:<ffffffff9e3df87f> {d_lookup+0x40/0x90}
[  100.5] mce: [Hardware Error]: TSC c ADDR 99999000 MISC 86
[  100.5] mce: [Hardware Error]: PROCESSOR 0:50654 TIME 1795377370 SOCKET 0 APIC 0 microcode 1
[  100.5] Kernel panic - not syncing: Fatal local machine check
"""

CASES = {
    "a register of the oops": (X86 + IGNORED + oops() + PANIC, "delayed-crash", "medium"),
    "the access itself": (
        X86 + IGNORED + oops(rdi=IN_PAGE, first=f"BUG: unable to handle page fault for address: {IN_PAGE}") + PANIC,
        *("delayed-crash", "medium"),  # a log does not show where the map begins
    ),
    "a null pointer": (
        X86 + IGNORED + oops("BUG: kernel NULL pointer dereference, address: 0000000000000000", rdi="0000000000000000") + PANIC,
        *("possible-delayed-crash", "low"),
    ),
    "an error code for a pointer": (
        X86 + IGNORED + oops("BUG: unable to handle page fault for address: fffffffffffffff4", rdi="fffffffffffffff4") + PANIC,
        *("possible-delayed-crash", "low"),
    ),
    "the mark of a list entry that is gone": (
        X86 + IGNORED + oops(rdi="dead000000000100").replace(f"0x{WILD}", "0xdead000000000100") + PANIC,
        *("possible-delayed-crash", "low"),
    ),
    "a lockup, whose registers no fault goes with": (
        X86 + IGNORED + "[  100.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [find:7]\n" + registers() + LOCKUP,
        *("possible-delayed-crash", "low"),
    ),
    "a line that only tells in front of a lockup": (
        X86 + IGNORED + "[   99.9] BUG: Bad page state in process find  pfn:00001\n" + registers() + LOCKUP,
        *("possible-delayed-crash", "low"),
    ),
    "an oops that was survived, and a lockup": (
        X86 + IGNORED + oops() + "[  400.0] Kernel panic - not syncing: softlockup: hung tasks\n",
        *("possible-delayed-crash", "low"),
    ),
    "a lockup's registers in front of a machine check elsewhere": (
        X86 + IGNORED + registers() + MCE,
        *("fatal-hardware-error", "certain"),
    ),
    "the failure came behind the crash": (
        X86 + oops() + IGNORED.replace("   10.0", "  100.1") + PANIC,
        *("unrelated", "high"),
    ),
    "the same without times": (
        "".join(line.partition("] ")[2] for line in (X86 + oops() + IGNORED + PANIC).splitlines(True)),
        *("unrelated", "high"),
    ),
    "a quoted panic in front of the oops": (
        X86 + IGNORED + "[    2.0] Command line: quiet Kernel panic - not syncing: x\n" + oops(),
        *("delayed-crash", "medium"),
    ),
    "a task that is called Oops": (
        X86 + IGNORED + "[  100.0] Oops: 0 [#1] invoked oom-killer: gfp_mask=0x140dca, order=0\n" + registers(),
        *("no-crash", "high"),
    ),
    "a die line of older kernels": (
        X86 + IGNORED + oops("stack segment: 0000 [#1] SMP PTI") + PANIC,
        *("delayed-crash", "medium"),
    ),
    "a page table with a reserved bit, of a kworker": (
        X86 + IGNORED + f"[  100.0] kworker/3:1: Corrupted page table at address 7fe809cba000\n[  100.0] PGD 2b34067 P4D 2b34067 PUD 2b35067 PMD {int(PFN, 16) << 12 | 0x67:x} PTE 8008000007aac867\n[  100.0] Oops: Bad pagetable: 000c [#1] SMP PTI\n" + registers("0" * 16) + PANIC,
        *("delayed-crash", "high"),
    ),
    "an unpoisoning that was refused": (
        X86 + IGNORED + f"[   20.0] Unpoison: Page was already unpoisoned {PFN}\n" + oops() + PANIC,
        *("delayed-crash", "medium"),
    ),
    "init killed for its page": (
        X86 + f"[   99.9] Memory failure: {PFN}: Sending SIGBUS to systemd:1 due to hardware memory corruption\n[   99.9] Memory failure: {PFN}: recovery action for dirty LRU page: Recovered\n[  100.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000007\n",
        *("fatal-hardware-error", "certain"),
    ),
    "an abort in the page, FAR not valid": (
        ARM + IGNORED + SEA + abort("0000000000000000").replace("f9400a61", "f9400ca1") + SEA_PANIC,
        *("delayed-crash", "high"),
    ),
    "an abort elsewhere, a register in the page": (
        ARM + IGNORED + SEA + abort("ffff000000000000").replace("f9400a61", "f9400001") + SEA_PANIC,
        *("possible-delayed-crash", "low"),
    ),
    "an SError in user mode": (
        ARM + IGNORED + "[  100.0] SError Interrupt on CPU1, code 0x00000000be000411 -- SError\n" + abort(pc="0000ffff8a123456", pstate="20001000") + "[  100.2] Kernel panic - not syncing: Asynchronous SError Interrupt\n",
        *("possible-delayed-crash", "low"),
    ),
}  # fmt: skip


QUOTES = (
    "usb 1-1: Product: x[    1.000000] Kernel panic - not syncing: Memory failure: 0x12345a: unrecoverable page",
    "usb 1-1: Manufacturer: Memory failure: 0x12345a: recovery action for get hwpoison page: Ignored",
    "Command line: quiet [    1.000000] mce: [Hardware Error]: CPU 0: Machine Check Exception: f Bank 9: bd80000000000134",
    "usb 1-1: SerialNumber: {1}[Hardware Error]: event severity: fatal",
)


@pytest.mark.parametrize("quote", QUOTES)
def test_what_a_device_says_of_itself_is_no_record(tmp_path: Path, quote: str) -> None:
    triage = of(tmp_path, X86 + f"[   20.000000] {quote}\n" + oops() + PANIC)
    assert (triage.verdict.kind, triage.verdict.confidence) == ("unrelated", "high")
    assert not triage.memory_failures and not triage.hardware_errors


def of(tmp_path: Path, text: str) -> Triage:
    path = tmp_path / "dmesg.txt"
    path.write_text(text)
    return analyze(path).triage


@pytest.mark.parametrize(("text", "kind", "confidence"), CASES.values(), ids=CASES)
def test_verdicts(tmp_path: Path, text: str, kind: str, confidence: str) -> None:
    verdict = of(tmp_path, text).verdict
    assert (verdict.kind, verdict.confidence) == (kind, confidence)


def test_the_page_is_that_of_the_verdict(tmp_path: Path) -> None:
    """Not the first that a register points into, which was recovered."""
    other = "[    5.0] Memory failure: 0x22222b: recovery action for dirty LRU page: Recovered\n"
    text = X86 + other + IGNORED + oops(rdi=WILD).replace("000000000000001a", "ffff9a822222b000")
    triage = of(tmp_path, text + PANIC)
    assert triage.verdict.kind == "delayed-crash"
    assert triage.verdict.pfn == PFN and triage.page is not None and triage.page.pfn == PFN
    assert triage.error_to_crash_seconds == pytest.approx(90.2)


def test_a_failure_behind_the_crash_is_marked(tmp_path: Path) -> None:
    late = IGNORED.replace("   10.0", "  100.1").replace(PFN, "0x777")
    failures = of(tmp_path, X86 + IGNORED + oops() + late + PANIC).memory_failures
    assert [(f.pfn, f.after_crash) for f in failures] == [(PFN, False), ("0x777", True)]


def test_many_failures_and_registers_take_no_time(tmp_path: Path) -> None:
    lines = [IGNORED.replace(PFN, f"{0x100000 + n:#x}") for n in range(20_000)]
    text = X86 + "".join(lines) + oops().replace("RBX: 0000000000000011", IN_PAGE * 3000) + PANIC
    assert of(tmp_path, text).verdict.kind == "possible-delayed-crash"

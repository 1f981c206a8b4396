"""What ties a crash to a page: addresses that lie in it, and nothing less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mftriage.dump import open_dump
from mftriage.facts import Facts, Tie
from mftriage.kernel.direct_map import LinearReader, to_virtual
from mftriage.kernel.printk import read_log
from mftriage.kernel.ties import Crash, crash_ties
from mftriage.kernel.translate import Translation
from mftriage.log import LogRecord
from mftriage.model import DumpInfo, HardwareError, MceRegisters, MemoryFailure, Panic
from mftriage.records.crash import crash_from_log, crash_registers
from mftriage.symbols import Kernel, open_kernel
from mftriage.verdict import decide
from tests import craft

PFN = 0x419A5
TIME = 33.0
QUICK = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """An arm64 machine, whose direct map VMCOREINFO alone describes."""
    path = tmp_path_factory.mktemp("ties") / "vmcore"
    info = craft.note("VMCOREINFO", 0, craft.ARM_INFO)
    core = craft.elf_core({0x40000000: bytes(4096)}, info, machine=craft.EM_AARCH64)
    path.write_bytes(core)
    dump = open_dump(path)
    yield open_kernel(dump)
    dump.close()


def oops(*registers: int, time: float = TIME) -> list[LogRecord]:
    lines = ["Internal error: Oops: 0000000096000005 [#1] SMP"]
    lines += [f"x{i % 30} : {value:016x}" for i, value in enumerate(registers)]
    found = [LogRecord(time, 0, line) for line in lines]
    return [*found, LogRecord(TIME, 0, "Kernel panic - not syncing: Oops: Fatal exception")]


def ties(
    kernel: Kernel,
    *registers: int,
    fault: int | None = None,
    records: tuple[HardwareError, ...] = (),
    time: float = TIME,
) -> tuple[Tie, ...]:
    panic = Panic(
        message="Oops: Fatal exception",
        time=TIME,
        fault_address=None if fault is None else f"{fault:#x}",
    )
    return crash_ties(kernel, oops(*registers, time=time), panic, records, [PFN]).ties


def verdict_of(
    found: tuple[Tie, ...], pfn: int = PFN, elsewhere: tuple[str, ...] = ()
) -> tuple[str, str]:
    facts = Facts(
        dump=DumpInfo(path="vmcore", page_size=4096),
        log=oops(),
        crashed=True,
        panic=Panic(message="Oops: Fatal exception", time=TIME),
        oops="Unable to handle kernel paging request",
        memory_failures=(
            MemoryFailure(time=3.0, pfn=f"{pfn:#x}", page_type="reserved", action="ignored"),
        ),
        ties=found,
        elsewhere=elsewhere,
    )
    verdict, _ = decide(facts)
    return verdict.kind, verdict.confidence


def page(kernel: Kernel, offset: int = 0) -> int:
    return to_virtual(kernel, PFN * 4096) + offset


def test_direct_map(kernel: Kernel) -> None:
    assert page(kernel) == 0xFFFF000000000000 + PFN * 4096 - 0x40000000


@QUICK
@given(st.integers(0, 4095))
def test_an_address_in_the_page(kernel: Kernel, offset: int) -> None:
    address = page(kernel, offset)
    assert ties(kernel, 0x1234, address) == (Tie(PFN, "register x1", address),)
    assert ties(kernel, fault=address) == (Tie(PFN, "the fault address", address, how="access"),)


@QUICK
@given(st.integers(0, 4095), st.integers(-(1 << 34), 1 << 34))
def test_moved_away_the_verdict_is_weaker(kernel: Kernel, offset: int, pages: int) -> None:
    """However near: an address in another page is no tie, though it may be one bit away."""
    assume(pages != 0)
    near, far = page(kernel, offset), page(kernel, offset) + pages * 4096
    assume(far >> 48 == 0xFFFF)
    assert verdict_of(ties(kernel, near))[0] == "delayed-crash"
    assert ties(kernel, far, fault=far) == ()
    assert verdict_of(ties(kernel, far, fault=far)) == ("possible-delayed-crash", "low")


@QUICK
@given(st.integers(0, 4095), st.integers(48, 63))
def test_one_flipped_bit_that_makes_it_no_address(kernel: Kernel, offset: int, bit: int) -> None:
    address = page(kernel, offset) ^ 1 << bit
    assert ties(kernel, fault=address) == (
        Tie(PFN, "the fault address", address, bit, how="access"),
    )
    assert verdict_of(ties(kernel, fault=address)) == ("delayed-crash", "high")


@QUICK
@given(st.integers(0, 4095), st.integers(12, 47))
def test_one_flipped_bit_that_leaves_it_an_address(kernel: Kernel, offset: int, bit: int) -> None:
    assert ties(kernel, page(kernel, offset) ^ 1 << bit) == ()


@QUICK
@given(st.integers(0, 4095), st.sets(st.integers(12, 63), min_size=2))
def test_two_flipped_bits_prove_nothing(kernel: Kernel, offset: int, bits: set[int]) -> None:
    address = page(kernel, offset)
    for bit in bits:
        address ^= 1 << bit
    assert ties(kernel, address) == ()


@QUICK
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_other_addresses_tie_nothing(kernel: Kernel, addresses: list[int]) -> None:
    start = page(kernel)
    assume(all((a ^ start) >> 12 and ((a ^ start) >> 12).bit_count() > 1 for a in addresses))
    assert ties(kernel, *addresses) == ()


def test_what_lies_in_it_comes_before_what_nearly_does(kernel: Kernel) -> None:
    flipped, exact = page(kernel, 8) ^ 1 << 62, page(kernel, 16)
    assert [t.flipped_bit for t in ties(kernel, flipped, exact)] == [None, 62]


def test_registers_of_an_earlier_oops_do_not_count(kernel: Kernel) -> None:
    assert ties(kernel, page(kernel), time=TIME - 11) == ()


def test_registers_behind_the_panic_do_not_count(kernel: Kernel) -> None:
    log = [*oops(), LogRecord(TIME, 0, f"x1 : {page(kernel):016x}")]
    panic = Panic(message="Oops: Fatal exception", time=TIME)
    assert crash_ties(kernel, log, panic, (), [PFN]).ties == ()


def check(address: int, time: float | None = TIME, severity: str = "fatal") -> HardwareError:
    return HardwareError(
        source="mce",
        medium="log",
        time=time,
        severity=severity,  # type: ignore[arg-type]
        physical_address=f"{address:#x}",
        mce=MceRegisters(mcgstatus="0x5"),
    )


def test_the_last_machine_check_counts(kernel: Kernel) -> None:
    """Not the one before, which the kernel had survived."""
    before, last = check(PFN * 4096, time=TIME - 0.8), check(0x1000, time=TIME - 0.1)
    assert ties(kernel, records=(before, last)) == ()
    assert len(ties(kernel, records=(before,))) == 1


@pytest.mark.parametrize(
    ("record", "count"),
    [
        (check(PFN * 4096 + 0x40), 1),
        (check(PFN * 4096 + 0x40, time=None), 1),
        (check(PFN * 4096 - 1), 0),
        (check((PFN + 1) * 4096), 0),
        (check(PFN * 4096, time=TIME - 5), 0),  # the failure's own, not the crash's
        (check(PFN * 4096, severity="corrected"), 0),
    ],
)
def test_the_machine_check_s_address(kernel: Kernel, record: HardwareError, count: int) -> None:
    assert len(ties(kernel, records=(record,))) == count


def test_x86_by_page_offset_base(x86_elf: Path) -> None:
    """The same with KASLR's base, out of a real dump."""
    dump = open_dump(x86_elf)
    x86 = open_kernel(dump)
    start = to_virtual(x86, 0x1741 * 4096)
    panic = Panic(time=TIME, fault_address=f"{start + 0x3C0:#x}")
    (tie,) = crash_ties(x86, [], panic, (), [0x1741]).ties
    assert (tie.pfn, tie.flipped_bit) == (0x1741, None)
    held = f"RAX: {start ^ 1 << 62:016x} RBX: {start + 4096:016x}"
    log = [LogRecord(TIME, 0, "Oops: 0000 [#1] SMP PTI")]
    log += [LogRecord(TIME, 0, held)]
    (tie,) = crash_ties(x86, log, Panic(time=TIME), (), [0x1741]).ties
    assert (tie.where, tie.flipped_bit) == ("register RAX", 62)
    dump.close()


@pytest.mark.parametrize("fault", ["0x0", "0xffffffffffffffff", "0x" + "f" * 16])
def test_addresses_at_the_edge(kernel: Kernel, fault: str) -> None:
    panic = Panic(time=1.0, fault_address=fault)
    assert crash_ties(kernel, [], panic, (), [0, 1 << 52]).ties == ()


class Case:
    """A kept dump of a later crash, to be asked of other pages than the one that failed."""

    def __init__(self, name: str) -> None:
        self.dump = open_dump(craft.FIXTURES / name / "capsule.elf.zst")
        self.kernel = open_kernel(self.dump)
        self.log = read_log(LinearReader(self.kernel), self.dump.vmcoreinfo)
        panic = crash_from_log(self.log)
        assert panic is not None
        self.panic = panic
        self.place = Translation(self.kernel)
        self.registers = crash_registers(self.log)

    def ask(self, *pfns: int | None) -> Crash:
        wanted = [pfn for pfn in pfns if pfn is not None]
        assert len(wanted) == len(pfns)
        return crash_ties(self.kernel, self.log, self.panic, (), wanted)

    def hows(self, *pfns: int | None) -> list[str]:
        return [tie.how for tie in self.ask(*pfns).ties]


@pytest.fixture(scope="module")
def far() -> Iterator[Case]:
    """An oops at an address that nothing maps, by a pointer out of a dentry that had not failed."""
    case = Case("x86_64-ignored-far-oops")
    yield case
    case.dump.close()


def test_what_the_cpu_touched(far: Case) -> None:
    access = far.ask(0x1).access
    assert access is not None and access.address == far.panic.fault_address
    assert access.register == "rdi" and access.instruction.startswith("mov ")


def test_the_pointer_that_led_astray_is_found(far: Case) -> None:
    crash = far.ask(0x1)
    assert crash.ties == () and len(crash.elsewhere) == 1
    found = re.search(
        r"stands in memory at (0x[0-9a-f]+), in page (0x[0-9a-f]+)", crash.elsewhere[0]
    )
    assert found is not None
    at, pfn = int(found[1], 16), int(found[2], 16)
    assert far.place.pfn_of(at) == pfn
    assert any(0 <= at - value < 256 for value in far.registers.values.values())
    # had that page failed, it would be the tie
    (tie,) = [t for t in far.ask(pfn).ties if t.how == "pointer"]
    assert (tie.address, far.ask(pfn).elsewhere) == (at, ())


@pytest.mark.parametrize("name", ["x86_64-ignored-far-oops", "arm64-external-abort-fnv"])
def test_the_stack_of_the_crash(name: str) -> None:
    """A stack is mapped page by page: only the page tables tell where it lies."""
    case = Case(name)
    sp = case.registers.read("sp") or case.registers.read("rsp")
    assert sp is not None
    pfn = case.place.pfn_of(sp)
    assert pfn is not None and case.place.direct(pfn) // 4096 != sp // 4096
    assert "stack" in case.hows(pfn)
    case.dump.close()


def test_the_code_that_ran(far: Case) -> None:
    start = far.kernel.address(far.registers.function or "")
    assert start is not None
    assert "code" in far.hows(far.place.pfn_of(start + far.registers.offset))


def test_code_of_another_function_of_that_name() -> None:
    """Where the log's code is not what stands there, it is not known where it ran."""
    case = Case("x86_64-trixie-bit-flip")
    function = case.registers.function
    start = case.kernel.address(function or "")
    assert function is not None and start is not None
    page = start + case.registers.offset & -4096
    pfn = case.place.pfn_of(page)
    assert pfn is not None
    near = (case.kernel.nearest(at) for at in range(page, page + 4096 - case.registers.offset, 16))
    others = {p.name for p in near if p} - {function}
    beside = {
        n for n in others if (case.kernel.address(n) or 0) + case.registers.offset & -4096 == page
    }
    assert beside  # functions of the same page
    for name in (function, *sorted(beside)[:3]):
        log = [r._replace(text=r.text.replace(f"{function}+", f"{name}+")) for r in case.log]
        ties = crash_ties(case.kernel, log, case.panic, (), [pfn]).ties
        assert ("code" in [t.how for t in ties]) is (name == function)
    case.dump.close()


def test_a_slot_of_the_stack(far: Case) -> None:
    """Of each page that the stack points into, some slot is found."""
    sp = far.registers.read("rsp") or 0
    words = memoryview(far.kernel.program.read(sp, 4096 - sp % 4096)).cast("Q")
    end = far.place.direct(0) + (1 << 30)
    pages = {far.place.pfn_of(word) for word in words if far.place.direct(0) <= word < end}
    assert pages
    for pfn in pages:
        found = [t for t in far.ask(pfn).ties if t.how == "slot"]
        assert found and len(found) <= 4
        assert all(t.address // 4096 == far.place.direct(pfn or 0) // 4096 for t in found)


def test_a_page_table_of_the_fault() -> None:
    case = Case("x86_64-reserved-bit")
    (tie,) = case.ask(0x2B36).ties
    assert (tie.how, tie.where) == ("table", "the pte that translates the fault address")
    assert case.ask(0x2B37).ties == ()
    case.dump.close()


@pytest.mark.parametrize(
    ("name", "pfn"),
    [
        (p.parent.name, json.loads(p.read_text())["victim"]["pfn"])
        for p in sorted(craft.FIXTURES.glob("*/truth.json"))
        if json.loads(p.read_text())["verdicts"] == ["delayed-crash"]
        and "load-in-kernel" not in p.parent.name  # tied by the record of the machine check
    ],
)
@pytest.mark.parametrize("pages", [-4096, -9, 1, 7, 4096])
def test_shifted_the_crash_is_tied_no_more(name: str, pfn: str, pages: int) -> None:
    """Of each real later crash: had the failure been in another page, it would not be accused."""
    case = Case(name)
    failed = int(pfn, 16)
    near, other = case.ask(failed), case.ask(failed + pages)
    assert verdict_of(near.ties, failed, near.elsewhere)[0] == "delayed-crash"
    kind, confidence = verdict_of(other.ties, failed + pages, other.elsewhere)
    assert (kind, confidence) == ("possible-delayed-crash", "low"), other.ties
    case.dump.close()

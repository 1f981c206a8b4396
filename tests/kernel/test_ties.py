"""What ties a crash to a page: addresses that lie in it, and nothing less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mftriage.dump import open_dump
from mftriage.facts import Facts, Tie
from mftriage.kernel.direct_map import to_virtual
from mftriage.kernel.ties import crash_ties
from mftriage.log import LogRecord
from mftriage.model import DumpInfo, HardwareError, MceRegisters, MemoryFailure, Panic
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
    lines = ["Unable to handle kernel paging request at virtual address"]
    lines += [f"x{i % 30} : {value:016x}" for i, value in enumerate(registers)]
    lines += ["Kernel panic - not syncing: Oops: Fatal exception"]
    return [LogRecord(time, 0, line) for line in lines]


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
    return crash_ties(kernel, oops(*registers, time=time), panic, records, [PFN])


def verdict_of(found: tuple[Tie, ...]) -> tuple[str, str]:
    facts = Facts(
        dump=DumpInfo(path="vmcore", page_size=4096),
        log=oops(),
        crashed=True,
        panic=Panic(message="Oops: Fatal exception", time=TIME),
        memory_failures=(
            MemoryFailure(time=3.0, pfn=f"{PFN:#x}", page_type="reserved", action="ignored"),
        ),
        ties=found,
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
    assert ties(kernel, fault=address) == (Tie(PFN, "the fault address", address),)


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
    assert ties(kernel, fault=address) == (Tie(PFN, "the fault address", address, bit),)
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
    assert ties(kernel, page(kernel), time=TIME - 6) == ()


def test_registers_behind_the_panic_do_not_count(kernel: Kernel) -> None:
    log = [*oops(), LogRecord(TIME, 0, f"x1 : {page(kernel):016x}")]
    panic = Panic(message="Oops: Fatal exception", time=TIME)
    assert crash_ties(kernel, log, panic, (), [PFN]) == ()


def check(address: int, time: float | None = TIME, severity: str = "fatal") -> HardwareError:
    return HardwareError(
        source="mce",
        medium="log",
        time=time,
        severity=severity,  # type: ignore[arg-type]
        physical_address=f"{address:#x}",
        mce=MceRegisters(mcgstatus="0x5"),
    )


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
    (tie,) = crash_ties(x86, [], panic, (), [0x1741])
    assert (tie.pfn, tie.flipped_bit) == (0x1741, None)
    log = [LogRecord(TIME, 0, f"RAX: {start ^ 1 << 62:016x} RBX: {start + 4096:016x}")]
    (tie,) = crash_ties(x86, log, Panic(time=TIME), (), [0x1741])
    assert (tie.where, tie.flipped_bit) == ("register RAX", 62)
    dump.close()


@pytest.mark.parametrize("fault", ["0x0", "0xffffffffffffffff", "0x" + "f" * 16])
def test_addresses_at_the_edge(kernel: Kernel, fault: str) -> None:
    assert crash_ties(kernel, [], Panic(time=1.0, fault_address=fault), (), [0, 1 << 52]) == ()

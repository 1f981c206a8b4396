"""What faulted: registers, code and page tables out of an oops's lines, and the address that an instruction touches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.facts import Tie
from mftriage.log import LogRecord
from mftriage.model import Panic
from mftriage.records.crash import crash_from_log, crash_registers
from mftriage.records.faults import (
    abort_of,
    held_addresses,
    reported,
    table_ties,
    touched_by,
)
from mftriage.records.instruction import accesses
from mftriage.records.linear import log_ties
from mftriage.records.registers import Registers, registers_of, walked_tables

X86 = """\
Oops: general protection fault, probably for non-canonical address 0xbfff8883815580f8: 0000 [#1] PREEMPT SMP PTI
CPU: 0 UID: 0 PID: 1 Comm: init Tainted: G   M                6.12.107+deb13-cloud-amd64 #1
RIP: 0010:__d_lookup_rcu+0x91/0xe0
Code: 83 e9 08 74 23 <4c> 8b 06 4c 8b 0a 44 39 d1 75 e3
RSP: 0018:ffffcdc0400139a8 EFLAGS: 00000206
RAX: ffff8883815580c8 RBX: 0000000000000001 RCX: 0000000000000005
RSI: bfff8883815580f8 RDI: ffff888381414000 RBP: 0000000000000000
CR2: 00007fe809cba000 CR3: 0000000002a4a000 CR4: 00000000007506f0
Call Trace:
 <TASK>
 lookup_fast+0x26/0xf0
RIP: 0033:0x43bd4a
Code: 48 c7 c0 b8 ff ff ff <3d> 00 f0 ff ff 77 07
RSP: 002b:00007ffe36ad1bd8 EFLAGS: 00000246 ORIG_RAX: 0000000000000106
RAX: ffff888381558000 RBX: ffff888381558000 R15: ffff888381558000
 </TASK>
Kernel panic - not syncing: Fatal exception"""
ARM = """\
Unable to handle kernel paging request at virtual address ffff00ff044d0788
Mem abort info:
  ESR = 0x0000000096000005
[ffff00ff044d0788] pgd=180000005ffff403, p4d=180000005fffe403, pud=0000000000000000
Internal error: Oops: 0000000096000005 [#1]  SMP
CPU: 1 UID: 0 PID: 92 Comm: objindexd Tainted: G   M                7.3.4+deb13-cloud-arm64 #1
pc : __d_lookup_rcu+0x50/0x108
sp : ffff8000804bb6f0
x29: ffff8000804bb6f0 x28: ffff000004ba0000 x27: 0000000000000000
x2 : 0000000000000008 x1 : ffff8000804bb770 x0 : ffff00ff044d0784
Code: 927ff804 f100041f 54000129 d1001080 (b9400400)
Kernel panic - not syncing: Oops: Fatal exception"""


def log_of(text: str) -> list[LogRecord]:
    return [LogRecord(10.0, 0, line) for line in text.splitlines()]


def crash(text: str) -> tuple[Panic, Registers]:
    panic = crash_from_log(log_of(text))
    assert panic is not None
    return panic, crash_registers(log_of(text))


def test_the_registers_of_x86() -> None:
    _, registers = crash(X86)
    assert registers.read("rax") == 0xFFFF8883815580C8
    assert registers.read("rsp") == 0xFFFFCDC0400139A8
    assert registers.read("r15") is None  # the process's own
    assert (registers.function, registers.offset) == ("__d_lookup_rcu", 0x91)
    assert registers.code[:3] == bytes.fromhex("4c8b06")


def test_what_the_process_holds_is_its_own_affair() -> None:
    _, registers = crash(X86)
    assert 0xFFFF888381558000 not in registers.values.values()


def test_the_registers_of_arm64() -> None:
    _, registers = crash(ARM)
    assert registers.read("x0") == 0xFFFF00FF044D0784
    assert registers.read("w0") == 0x044D0784
    assert registers.read("fp") == registers.read("sp") == 0xFFFF8000804BB6F0
    assert registers.read("xzr") == 0
    assert registers.code == bytes.fromhex("000440b9")


def test_the_first_oops_counts() -> None:
    second = X86.replace("Oops: gen", "BUG: gen").replace("80c8", "ffff")
    _, registers = crash(X86.rsplit("\n", 1)[0] + "\n" + second)
    assert registers.read("rax") == 0xFFFF8883815580C8


def test_what_faulted_on_x86() -> None:
    panic, registers = crash(X86)
    touched = touched_by(panic, registers, "x86_64")
    assert [a.address for a in touched] == ["0xbfff8883815580f8"]
    assert reported(panic, touched) == touched[0]
    held = held_addresses(panic, registers, touched)
    assert [h.where for h in held if h.how == "access"] == ["the fault address"]
    assert not any("CR" in h.where for h in held)


def test_what_faulted_on_arm64() -> None:
    panic, registers = crash(ARM)
    (access,) = touched_by(panic, registers, "arm64")
    assert (access.instruction, access.register) == ("ldr w0, [x0, #4]", "x0")
    assert access.address == panic.fault_address == "0xffff00ff044d0788"


def test_an_serror_has_no_instruction() -> None:
    panic, registers = crash(ARM.replace("Oops: Fatal exception", "Asynchronous SError Interrupt"))
    assert touched_by(panic, registers, "arm64") == ()


def test_an_address_that_the_cpu_calls_invalid_does_not_count() -> None:
    panic = Panic(fault_address="0x1000", fault_address_valid=False)
    assert held_addresses(panic, Registers(), ()) == []


CODE = [
    ("x86_64", "48 8b 43 08", {"rbx": 0x1000}, "rbx", 0x1008),
    ("x86_64", "48 8b 43 f8", {"rbx": 0x1000}, "rbx", 0xFF8),
    ("x86_64", "0f b6 04 11", {"rcx": 0x1000, "rdx": 3}, "rcx", 0x1003),
    ("x86_64", "48 8b 04 cb", {"rbx": 0x1000, "rcx": 2}, "rbx", 0x1010),
    ("x86_64", "ff 50 10", {"rax": 0x2000}, "rax", 0x2010),
    ("x86_64", "ff d0", {"rax": 0x2000}, "rax", 0x2000),
    ("x86_64", "c3", {"rsp": 0x3000}, "rsp", 0x3000),
    ("x86_64", "48 8b 43 08", {"rbx": (1 << 64) - 8}, "rbx", 0),
    ("arm64", "08 10 40 f9", {"x0": 0x1000}, "x0", 0x1020),
    ("arm64", "41 84 40 f8", {"x2": 0x1000}, "x2", 0x1000),  # post-index
    ("arm64", "41 8c 40 f8", {"x2": 0x1000}, "x2", 0x1008),  # pre-index
    ("arm64", "61 7a 62 f8", {"x19": 0x1000, "x2": 2}, "x19", 0x1010),
    ("arm64", "64 da 63 b8", {"x19": 0x1000, "x3": 0xFFFFFFFF}, "x19", 0xFFC),  # sxtw #2
    ("arm64", "41 58 63 f8", {"x2": 0x1000, "x3": 0x1_0000_0001}, "x2", 0x1008),  # uxtw #3
    ("arm64", "20 fc 5f c8", {"x1": 0x1000}, "x1", 0x1000),  # ldaxr
    ("arm64", "41 7c a0 c8", {"x2": 0x1000}, "x2", 0x1000),  # cas
]


@pytest.mark.parametrize(("arch", "code", "values", "register", "address"), CODE)
def test_addresses(
    arch: str, code: str, values: dict[str, int], register: str, address: int
) -> None:
    (access,) = accesses(Registers(values, bytes.fromhex(code)), arch)
    assert (access.register, access.address) == (register, f"{address:#x}")


@pytest.mark.parametrize(
    ("arch", "code", "values"),
    [
        ("x86_64", "48 8b 43 08", {}),  # the register is not known
        ("x86_64", "48 8d 43 08", {"rbx": 0x1000}),  # lea
        ("x86_64", "65 48 8b 04 25 c0 fb 01 00", {}),  # gs has a base of its own
        ("x86_64", "48 8b 05 de ad be 00", {}),  # where it stands is not known
        ("x86_64", "0f 0b", {"rax": 1}),  # ud2
        ("x86_64", "", {"rax": 1}),
        ("arm64", "01 00 80 f9", {"x0": 0x1000}),  # prfm
        ("arm64", "00 00 21 d4", {"x0": 0x1000}),  # brk
        ("arm64", "61 7a 62 f8", {"x19": 0x1000}),
        ("riscv", "48 8b 43 08", {"rbx": 0x1000}),
    ],
)
def test_no_address(arch: str, code: str, values: dict[str, int]) -> None:
    assert accesses(Registers(values, bytes.fromhex(code)), arch) == ()


def test_both_operands_of_a_copy() -> None:
    copied = accesses(Registers({"rsi": 0x1000, "rdi": 0x2000}, b"\xf3\xa4"), "x86_64")
    assert {access.address for access in copied} == {"0x1000", "0x2000"}
    panic = Panic(fault_address="0x1000")
    assert (told := reported(panic, copied)) is not None and told.register == "rsi"


def test_an_access_over_the_end_of_a_page() -> None:
    """The CPU names the page that faulted, not where the access began."""
    touched = accesses(Registers({"rbx": 0xFFF}, bytes.fromhex("488b4300")), "x86_64")
    told = reported(Panic(fault_address="0x1000"), touched)
    assert told is not None and (told.address, told.register) == ("0x1000", None)


def test_code_relative_to_itself() -> None:
    (access,) = accesses(Registers({}, bytes.fromhex("488b0500010000")), "x86_64", at=0x1000)
    assert access.address == "0x1107"


def test_tables_of_x86() -> None:
    lines = "victim: Corrupted page table at address 7fe809cba000\nPGD 8000000002b34067 P4D 8000000002b34067 PUD 2b35067 PMD 2b36067 PTE 8008000007aac867\nOops: Bad pagetable: 000c [#1] SMP PTI\nKernel panic - not syncing: Fatal exception"
    panic, registers = crash(lines)
    assert panic.fault_address == "0x7fe809cba000"
    assert walked_tables(registers, "x86_64") == [
        ("p4d", 0x2B34000),
        ("pud", 0x2B34000),
        ("pmd", 0x2B35000),
        ("pte", 0x2B36000),
    ]
    assert [t.pfn for t in table_ties(registers, "x86_64", [0x2B36, 0x7AAC], 4096)] == [0x2B36]


@pytest.mark.parametrize(
    ("line", "tables"),
    [
        ("PGD 5a01067 P4D 5a01067 PUD 0 ", ["p4d", "pud"]),
        ("PGD 5a01067 P4D 5a01067 PUD 40000000000e3 ", ["p4d", "pud"]),  # 1 GiB at once
        ("PGD BAD ", []),
        ("PGD 0 P4D 0 ", []),
    ],
)
def test_where_the_walk_ends(line: str, tables: list[str]) -> None:
    registers = registers_of(log_of(f"BUG: x\n{line}"))
    assert [level for level, _ in walked_tables(registers, "x86_64")] == tables


def test_tables_of_arm64() -> None:
    _, registers = crash(ARM)
    assert walked_tables(registers, "arm64") == [
        ("p4d", 0x5FFFF000),
        ("pud", 0x5FFFE000),
    ]
    user = registers_of(log_of("user pgtable: 4k pages, 48-bit VAs, pgdp=0000000044ba0000"))
    assert walked_tables(user, "arm64") == [("pgd", 0x44BA0000)]


@pytest.mark.parametrize(
    ("syndrome", "aborted"),
    [("0x96000010", True), ("0x96000410", True), ("0x96000017", True), ("0x96000005", False), (None, False), ("0xf2000010", False)],
)  # fmt: skip
def test_aborts(syndrome: str | None, aborted: bool) -> None:
    assert abort_of(Panic(syndrome=syndrome)) is aborted


@pytest.mark.parametrize("bit", [47, 56, 62])
def test_a_flipped_bit_in_a_log_alone(bit: int) -> None:
    address = 0xFFFF888000000000 + 0x1558000
    panic = Panic(fault_address=f"{address ^ 1 << bit:#x}")
    held = held_addresses(panic, Registers({"rax": address ^ 1 << bit}), ())
    (tie,) = log_ties(held, [0x1558], 4096, "x86_64", ())  # the register alone proves nothing
    assert (tie.how, tie.flipped_bit, tie.pfn) == ("access", bit, 0x1558)
    assert log_ties(held, [0x1559], 4096, "x86_64", ()) == ()


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["x86_64", "arm64", None]),
    st.binary(max_size=20),
    st.dictionaries(
        st.sampled_from(["rax", "rbx", "rsp", "rip", "x0", "x1", "sp", "x29"]),
        st.integers(0, 2**64 - 1),
    ),
)
def test_any_code(arch: str | None, code: bytes, values: dict[str, int]) -> None:
    for access in accesses(Registers(values, code), arch):
        assert access.address is not None and 0 <= int(access.address, 16) < 1 << 64
        assert access.instruction.isprintable()


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.one_of(st.sampled_from([*X86.splitlines(), *ARM.splitlines()]), st.text(max_size=80)),
        max_size=30,
    )
)
def test_any_lines(lines: list[str]) -> None:
    registers = registers_of([LogRecord(1.0, 0, line) for line in lines])
    assert all(0 <= value < 1 << 64 for value in registers.values.values())
    for arch in ("x86_64", "arm64", None):
        assert all(physical >= 0 for _, physical in walked_tables(registers, arch))
        accesses(registers, arch)


def test_the_tie_of_a_register_and_of_an_access_are_told_apart() -> None:
    address = 0xFFFF000000000000 + 0x4D0000
    held = held_addresses(Panic(fault_address=f"{address + 8:#x}"), Registers({"x4": address}), ())
    ties = log_ties(held, [0x4D0], 4096, "arm64", ())
    assert [(t.how, t.where) for t in ties] == [
        ("access", "the fault address"),
        ("register", "register x4"),
    ]
    assert all(isinstance(t, Tie) and t.provided for t in ties)

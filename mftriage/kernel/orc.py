"""A stack of x86_64, unwound with the kernel's own ORC tables.

drgn unwinds by them too, but reads all 5 MB first; a binary search needs a few pages, which a
capsule can carry.  Format: asm/orc_types.h; the steps are those of unwind_next_frame()
(arch/x86/kernel/unwind_orc.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from drgn import FaultError, TypeMember

from mftriage.symbols import Kernel

_ENTRY = 6  # bytes of struct orc_entry
# The registers' numbers changed in 7.x; a function's first instruction tells which numbers hold.
_NUMBERS = {
    3: {2: "dx", 3: "sp", 4: "bp", 6: "r10", 7: "r13", 8: "cfa", 9: "(sp)", 10: "(bp)"},
    5: {1: "cfa", 2: "dx", 3: "di", 4: "bp", 5: "sp", 6: "r10", 7: "r13", 8: "(bp)", 9: "(sp)"},
}
_MASK = (1 << 64) - 1
_MAX_FRAMES = 64
_MAX_SCAN = 128  # words of the stack that are searched where the tables know nothing

# Words of struct pt_regs (asm/ptrace.h), which NT_PRSTATUS holds in the same order.
_REGISTERS = {"r13": 2, "bp": 4, "r10": 7, "dx": 12, "di": 14}
_IP, _STACK = 16, 19
_WORDS = 21


class Step(NamedTuple):
    """A frame: where it was, and whether ``ip`` is that instruction or the one to return to."""

    ip: int
    exact: bool


class _Entry(NamedTuple):
    sp_offset: int
    bp_offset: int
    sp_register: str | None
    bp_register: str | None
    kind: str


class _Tables:
    """.orc_unwind_ip and .orc_unwind of the kernel image."""

    def __init__(self, kernel: Kernel) -> None:
        self._read = kernel.program.read
        names = "__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind"
        found = [kernel.address(name) for name in names]
        text = [kernel.address(name) for name in ("_stext", "_etext")]
        if None in found or None in text:
            raise LookupError("the kernel has no ORC tables")
        self._ips, end, self._entries = (int(address or 0) for address in found)
        self._count = (end - self._ips) // 4
        self.text = range(int(text[0] or 0), int(text[1] or 0))
        # Three bits of type since 6.4 (ffb1b4a41016), which also numbers the types anew.
        width = _bits(kernel.program.type("struct orc_entry").member("type"))
        self._kinds = (
            {1: "end", 2: "call", 3: "regs", 4: "iret"}
            if width == 3
            else {0: "call", 1: "regs", 2: "iret"}
        )
        self._mask = (1 << width) - 1
        start = kernel.address("panic")
        raw = self._raw(start) if start is not None else None
        if raw is None or raw[4] & 0xF not in _NUMBERS:
            raise LookupError("the kernel's ORC tables are of a kind that is not known")
        self._registers = _NUMBERS[raw[4] & 0xF]

    def _ip(self, index: int) -> int:
        at = self._ips + 4 * index
        return at + int.from_bytes(self._read(at, 4), "little", signed=True) & _MASK

    def _raw(self, ip: int) -> bytes | None:
        """The struct orc_entry of an instruction of the kernel image."""
        if ip not in self.text:
            return None
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._ip(middle) <= ip:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return None
        raw: bytes = self._read(self._entries + _ENTRY * (low - 1), _ENTRY)
        return raw

    def find(self, ip: int) -> _Entry | None:
        """What is known of the frame at an instruction of the kernel image."""
        raw = self._raw(ip)
        if raw is None:
            return None
        flags = int.from_bytes(raw[4:], "little")
        kind = self._kinds.get(flags >> 8 & self._mask)
        if kind is None or (flags & 0xF == 0 and kind != "end"):
            return None
        return _Entry(
            int.from_bytes(raw[:2], "little", signed=True),
            int.from_bytes(raw[2:4], "little", signed=True),
            self._registers.get(flags & 0xF),
            self._registers.get(flags >> 4 & 0xF),
            kind,
        )

    def calls(self, ip: int) -> bool:
        """Whether a call instruction ends at ``ip``: direct (e8), or through a register or memory (ff /2)."""
        if ip not in self.text:
            return False
        code = self._read(ip - 7, 7)
        return code[2] == 0xE8 or any(
            code[at] == 0xFF and code[at + 1] >> 3 & 7 == 2 for at in (0, 1, 4, 5)
        )


def _bits(member: TypeMember) -> int:
    return member.bit_field_size or 3


def unwind(kernel: Kernel, registers: bytes) -> Iterator[Step]:
    """The frames from ``registers`` (pr_reg of NT_PRSTATUS) outwards.

    Raises ``LookupError`` where the kernel has no ORC tables.
    """
    tables = _Tables(kernel)
    read = kernel.program.read_u64
    words = [int.from_bytes(registers[8 * i : 8 * i + 8], "little") for i in range(_WORDS)]
    known = {number: words[at] for number, at in _REGISTERS.items()}
    ip, sp, exact = words[_IP], words[_STACK], True
    for _ in range(_MAX_FRAMES):
        if not ip >> 63:  # user space
            return
        yield Step(ip, exact)
        try:
            entry = tables.find(ip if exact else ip - 1)
            if entry is None:
                # No entry (code that objtool leaves out): the next return address on the stack.
                below = _scan(tables, kernel, sp)
                if below is None:
                    return
                ip, sp, exact = *below, False
                continue
            if entry.kind == "end":
                return
            frame = _frame(entry, sp, known, read)
            if frame is None or (frame <= sp and entry.kind == "call"):
                return
            before = known.get("bp")
            if entry.kind == "regs":
                known = {number: read(frame + 8 * at) for number, at in _REGISTERS.items()}
                ip, sp, exact = read(frame + 8 * _IP), read(frame + 8 * _STACK), True
                continue
            if entry.bp_register == "cfa":
                known["bp"] = read(frame + entry.bp_offset & _MASK)
            elif entry.bp_register == "bp" and before is not None:
                known["bp"] = read(before + entry.bp_offset & _MASK)
            if entry.kind == "iret":
                ip, sp, exact = read(frame), read(frame + 24), True
            else:
                ip, sp, exact = read(frame - 8), frame, False
            known = {"bp": known["bp"]} if "bp" in known else {}
        except FaultError:
            return


def _frame(entry: _Entry, sp: int, known: dict[str, int], read: Callable[[int], int]) -> int | None:
    """The stack pointer as it was in the caller (the CFA of DWARF)."""
    base: int | None
    if entry.sp_register == "sp":
        base = sp + entry.sp_offset
    elif entry.sp_register == "(sp)":
        base = read(sp) + entry.sp_offset
    elif entry.sp_register == "(bp)":
        base = read(known["bp"] + entry.sp_offset & _MASK) if "bp" in known else None
    elif entry.sp_register == "bp":
        base = known["bp"] + entry.sp_offset if "bp" in known else None
    else:  # a register that holds it as it is
        base = known.get(entry.sp_register or "")
    return None if base is None else base & _MASK


def _scan(tables: _Tables, kernel: Kernel, sp: int) -> tuple[int, int] | None:
    """The first return address above ``sp``, and the stack pointer behind it."""
    for slot in range(sp, sp + 8 * _MAX_SCAN, 8):
        value = kernel.program.read_u64(slot)
        if tables.calls(value):
            return value, slot + 8
    return None

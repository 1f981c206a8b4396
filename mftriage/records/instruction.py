"""Which address an instruction touches, by its code and the registers that the log shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mftriage.model import Access, hexed
from mftriage.records.registers import Registers

if TYPE_CHECKING:
    from capstone import CsInsn

_MASK = (1 << 64) - 1
_LONGEST = 16  # bytes that an instruction takes at most
# Loads that can't fault, and addresses that are only computed.
_HARMLESS = ("prfm", "prefetch", "nop")


def accesses(registers: Registers, arch: str | None, at: int | None = None) -> tuple[Access, ...]:
    """What the faulting instruction reads, writes or jumps to; empty where that can't be told.

    ``at`` is the instruction's own address, where it is known.
    """
    instruction = _decoded(registers.code[:_LONGEST], arch, at or 0)
    if instruction is None or instruction.mnemonic.startswith(_HARMLESS):
        return ()
    if instruction.mnemonic == "lea":
        return ()
    text = f"{instruction.mnemonic} {instruction.op_str}".strip()
    found = []
    for base, address in _touched(instruction, registers, arch, at is not None):
        found.append(Access(instruction=text, register=base, address=hexed(address & _MASK)))
    return tuple(found)


def _decoded(code: bytes, arch: str | None, at: int) -> CsInsn | None:
    """The first instruction of ``code``."""
    if not code or arch not in ("x86_64", "arm64"):
        return None
    import capstone

    kind = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "arm64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN),
    }[arch]
    decoder = capstone.Cs(*kind)
    decoder.detail = True
    return next(decoder.disasm(code, at, 1), None)


def _touched(
    instruction: CsInsn, registers: Registers, arch: str | None, placed: bool
) -> list[tuple[str | None, int]]:
    """(base register, address) of each operand in memory whose registers are known."""
    from capstone import CS_GRP_CALL, CS_GRP_JUMP, CS_GRP_RET, CS_OP_MEM, CS_OP_REG

    found: list[tuple[str | None, int]] = []
    for operand in instruction.operands:
        if operand.type == CS_OP_MEM:
            base = instruction.reg_name(operand.mem.base) if operand.mem.base else None
            address = _address(instruction, operand, base, registers, arch, placed)
            if address is not None:
                found.append((base, address))
    if found:
        return found
    if arch == "arm64":  # DC ZVA and its like name a register
        name = instruction.reg_name(instruction.operands[-1].reg) if instruction.operands else None
        at = registers.read(name) if name and instruction.mnemonic == "dc" else None
        return [] if at is None else [(name, at)]
    # x86: the stack, and a jump to where no code can be, have no operand in memory.
    for operand in instruction.operands:
        if operand.type == CS_OP_REG and (
            instruction.group(CS_GRP_JUMP) or instruction.group(CS_GRP_CALL)
        ):
            name = instruction.reg_name(operand.reg)
            value = registers.read(name)
            return [] if value is None else [(name, value)]
    if instruction.mnemonic == "leave" and (frame := registers.read("rbp")) is not None:
        return [("rbp", frame)]
    stack = registers.read("rsp")
    if stack is not None and (instruction.group(CS_GRP_RET) or instruction.mnemonic == "pop"):
        return [("rsp", stack)]
    return []


def _address(
    instruction: CsInsn,
    operand: object,
    base: str | None,
    registers: Registers,
    arch: str | None,
    placed: bool,
) -> int | None:
    memory = operand.mem  # type: ignore[attr-defined]
    total = int(memory.disp)
    if arch == "x86_64" and memory.segment:  # fs and gs have bases of their own
        return None
    if base == "rip":
        return total + instruction.address + instruction.size if placed else None
    if base is not None:
        value = registers.read(base)
        if value is None:
            return None
        total += value
    if memory.index:
        value = registers.read(instruction.reg_name(memory.index))
        if value is None:
            return None
        total += _scaled(operand, value, arch)
    return total


def _scaled(operand: object, value: int, arch: str | None) -> int:
    """The index's part of an address: a scale (x86), a shift and an extension (arm64)."""
    if arch == "x86_64":
        return value * int(operand.mem.scale)  # type: ignore[attr-defined]
    from capstone.arm64 import ARM64_EXT_SXTW

    if operand.ext == ARM64_EXT_SXTW and value & 1 << 31:  # type: ignore[attr-defined]
        value -= 1 << 32
    return value << int(operand.shift.value)  # type: ignore[attr-defined]

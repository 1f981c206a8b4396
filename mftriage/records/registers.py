"""The registers of an oops as the log shows them, the code that ran, and the page tables that were walked.

x86_64: show_regs() (arch/x86/kernel/process_64.c), show_opcodes() (dumpstack.c) and dump_pagetable()
(arch/x86/mm/fault.c); arm64: show_regs() (arch/arm64/kernel/process.c), dump_kernel_instr()
(traps.c) and show_pte() (arch/arm64/mm/fault.c).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mftriage.log import LogRecord
from mftriage.pattern import Pattern

# "RAX: 0000000000000000 RBX: ...", "RSP: 0018:ffffc90000013a20"; "x29: ffff800080d4bb40 x28: ...", "sp : ..."
_REGISTER = Pattern(
    r"\b(R(?:[A-D]X|[SD]I|[BS]P|0[89]|1[0-5])|CR[23]|x\d{1,2}|sp)\s?: (?:[0-9a-f]{4}:)?([0-9a-f]{16})\b"
)
_SITE = Pattern(
    r"(?:RIP: 0010:|\bIP: |\bpc : )(?:\[<[0-9a-f]+>\]\s*){0,2}([\w.$]{1,512})\+0x([0-9a-f]{1,8})/0x"
)
_KERNEL_SITE = Pattern(r"RIP: 0010:|\bpc : (?!0000)")  # a process's pc has no symbol
_CODE = Pattern(r"^\s*Code: ([0-9a-f<>() ]{8,1024})")
# x86: "PGD 5a01067 P4D 5a01067 PUD 0", or "PGD BAD"; arm64: "pgd=180000005ffff403, p4d=..."
_WALKED = Pattern(r"\b((?:P[GUM4]D|PTE)(?= )|(?:p[gum4]d|pte)(?==))[ =]([0-9a-f]{1,16})\b")
_TOP = Pattern(r"\bpgdp=([0-9a-f]{8,16})\b")
_LEVELS = ("pgd", "p4d", "pud", "pmd", "pte")
_NAMES = {"fp": "x29", "lr": "x30"}
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Registers:
    """What the CPU held when it faulted.

    ``values`` by the registers' lower-case names.  ``code`` is the machine code from the faulting
    instruction on, ``function`` and ``offset`` say where it stands.  ``tables`` are the entries
    of the page tables that translate the fault address, by level, the last one that was read last.
    ``shown`` says that the log has registers, be they the process's own.
    """

    values: Mapping[str, int] = field(default_factory=dict)
    code: bytes = b""
    function: str | None = None
    offset: int = 0
    tables: tuple[tuple[str, int], ...] = ()
    shown: bool = False

    def read(self, name: str) -> int | None:
        """The value of a register by the name that an instruction has for it; ``None``: not known."""
        if name in ("xzr", "wzr"):
            return 0
        name = _NAMES.get(name, name)
        if name in self.values:
            return self.values[name]
        if name[:1] == "w" and (whole := self.values.get(f"x{name[1:]}")) is not None:
            return whole & 0xFFFFFFFF
        return None


def registers_of(log: Sequence[LogRecord]) -> Registers:
    """The first set of the kernel's own registers in ``log``, which begins with the oops.

    The set of the process that called the kernel (RIP: 0033) is its own affair: it can hold
    whatever the process likes.
    """
    values: dict[str, int] = {}
    tables: list[tuple[str, int]] = []
    code, function, offset = b"", None, 0
    user = shown = False
    for record in log:
        text = record.text
        if "RIP: " in text or "pc : " in text:
            user = _KERNEL_SITE.search(text) is None
        if function is None and not user and (site := _SITE.search(text)):
            function, offset = site[1], int(site[2], 16)
        if ": " in text:
            found_here = _REGISTER.findall(text)
            shown = shown or bool(found_here)
            for name, value in [] if user else found_here:
                values.setdefault(name.lower(), int(value, 16))
            if not code and not user and (found := _CODE.match(text)):
                code = _bytes(found[1])
        if not tables and (top := _TOP.search(text)):
            tables.append(("pgdp", int(top[1], 16)))
        if len(tables) < 2 and ("pgd=" in text or "PGD " in text):
            tables += [(level.lower(), int(value, 16)) for level, value in _WALKED.findall(text)]
    return Registers(values, code, function, offset, tuple(tables), shown)


def walked_tables(registers: Registers, arch: str | None) -> list[tuple[str, int]]:
    """Level and physical address of each table that the fault's address was looked up in.

    An entry that points at a table has bit 0 set, and not the bit of a large page: bit 7 on x86
    (SDM vol. 3A, 5.5), bit 1 clear on arm64 (Arm ARM, D8.3).
    """
    found: list[tuple[str, int]] = []
    top = registers.read("cr3")
    if registers.tables and top is not None:
        found.append(("pgd", top & (1 << 52) - 4096))
    for level, entry in registers.tables:
        if level == "pgdp":
            found.append(("pgd", entry))
            continue
        if level not in _LEVELS[:-1] or not entry & 1:
            continue
        leaf = not entry & 2 if arch == "arm64" else entry & 0x80 and level in ("pud", "pmd")
        if leaf:
            break
        below = entry & (1 << (48 if arch == "arm64" else 52)) - 4096
        found.append((_LEVELS[_LEVELS.index(level) + 1], below))
    return found


def _bytes(words: str) -> bytes:
    """The code from the marked instruction on: "48 8b <48> 8b 06" bytewise, "f9400273 (f9400a61)" as words."""
    at = max(words.find("<"), words.find("("))
    if at < 0:
        return b""
    units = words[at:].replace("<", "").replace(">", "").replace("(", "").replace(")", "").split()
    try:
        if words[at] == "<":
            return bytes(int(unit, 16) for unit in units)
        return b"".join(int(unit, 16).to_bytes(4, "little") for unit in units)
    except (ValueError, OverflowError):
        return b""

"""arm64's exception syndrome, ESR_EL1 (Arm ARM, D24.2.40; arch/arm64/include/asm/esr.h)."""

from __future__ import annotations

from mftriage.registers.table import RESERVED, Bits, Table, flag

_ABORT = 0x10
_INSTRUCTION_LOWER, _INSTRUCTION, _DATA_LOWER, _DATA, _SERROR = 0x20, 0x21, 0x24, 0x25, 0x2F

# fault_info of arch/arm64/mm/fault.c: what has to do with memory errors, and the common faults
_STATUS = {
    _ABORT: "synchronous external abort, not on a table walk",
    0x18: "synchronous parity or ECC error, not on a table walk",
    0x21: "alignment fault",
    **{0x00 + level: f"address size fault, level {level}" for level in range(4)},
    **{0x04 + level: f"translation fault, level {level}" for level in range(4)},
    **{0x08 + level: f"access flag fault, level {level}" for level in range(4)},
    **{0x0C + level: f"permission fault, level {level}" for level in range(4)},
    **{0x14 + level: f"synchronous external abort on a table walk, level {level}" for level in range(4)},
    **{0x1C + level: f"synchronous parity or ECC error on a table walk, level {level}" for level in range(4)},
}  # fmt: skip

_CLASSES = {
    _INSTRUCTION_LOWER: "instruction abort from user space",
    _INSTRUCTION: "instruction abort in the kernel",
    _DATA_LOWER: "data abort from user space",
    _DATA: "data abort in the kernel",
    _SERROR: "SError interrupt",
}

_SEVERITIES = {
    0: "uncontainable",
    1: "unrecoverable",
    2: "restartable",
    3: "recoverable",
    6: "corrected",
} | dict.fromkeys((4, 5, 7), RESERVED)

_HEAD = (
    Bits(63, 56, None, RESERVED),
    Bits(55, 32, "ISS2", None),
    Bits(31, 26, "EC", lambda value, _: _CLASSES.get(value, "an exception of another class")),
    flag(25, "IL", "instruction of 32 bits", "instruction of 16 bits"),
)
_SOURCE = "Arm ARM, ESR_EL1; arch/arm64/include/asm/esr.h"


def _status(value: int, _: int) -> str:
    return _STATUS.get(value, "a fault that this table does not have")


_SETS = ("recoverable, or not told", RESERVED, "uncontainable", "restartable")


def _severity(value: int, esr: int) -> str | None:
    return _SETS[value] if esr & 0x3F == _ABORT else None


def _far(value: int, esr: int) -> str:
    return (
        "the fault address is not valid"
        if value and esr & 0x3F == _ABORT
        else "the fault address is valid"
    )


_TYPE = Bits(9, 9, "EA", "type of the external abort, of the implementation's making")
_EXTERNAL = (Bits(12, 11, "SET", _severity), Bits(10, 10, "FnV", _far), _TYPE)


def syndrome(esr: int) -> Table:
    """ESR_EL1 for the exception class that ``esr`` has."""
    kind = esr >> 26 & 0x3F
    rows: tuple[Bits, ...]
    if kind in (_DATA, _DATA_LOWER):
        rows = (
            flag(24, "ISV", "ISS[23:14] tell of the instruction", "ISS[23:14] tell nothing"),
            Bits(23, 14, None, "the instruction: its register and size"),
            flag(13, "VNCR", "at an access through VNCR_EL2", None),
            *_EXTERNAL,
            flag(8, "CM", "by a cache maintenance instruction", "not by cache maintenance"),
            flag(7, "S1PTW", "on a stage-1 table walk that stage 2 stopped", "not on such a table walk"),
            flag(6, "WnR", "at a write", "at a read"),
            Bits(5, 0, "DFSC", _status),
        )  # fmt: skip
    elif kind in (_INSTRUCTION, _INSTRUCTION_LOWER):
        rows = (
            Bits(24, 13, None, RESERVED),
            *_EXTERNAL,
            Bits(8, 8, None, RESERVED),
            flag(7, "S1PTW", "on a stage-1 table walk that stage 2 stopped", "not on such a table walk"),
            Bits(6, 6, None, RESERVED),
            Bits(5, 0, "IFSC", _status),
        )  # fmt: skip
    elif kind == _SERROR and esr >> 24 & 1:
        rows = (
            flag(24, "IDS", "the rest is the implementation's own"),
            Bits(23, 0, "ISS", "of the processor's own making: see its manual"),
        )
    elif kind == _SERROR:
        rows = (
            flag(24, "IDS", "", "as the architecture has it"),
            Bits(23, 14, None, RESERVED),
            flag(13, "IESB", "synchronized by an implicit barrier", None),
            Bits(12, 10, "AET", _SEVERITIES),
            _TYPE,
            Bits(8, 6, None, RESERVED),
            Bits(5, 0, "DFSC", {0: "uncategorized", 0x11: "asynchronous SError"}),
        )  # fmt: skip
    else:
        rows = (Bits(24, 0, "ISS", "of this exception class: see the Arm ARM"),)
    return Table("ESR_EL1", _SOURCE, (*_HEAD, *rows))

"""The machine-check registers of x86: what all vendors have in common, and Intel's own.

Intel SDM vol. 3B, "Machine-Check Architecture": 17.3.1.2 (IA32_MCG_STATUS), 17.3.2.2 (IA32_MCi_STATUS),
17.3.2.4 (IA32_MCi_MISC), 17.9 (error codes); AMD APM vol. 2, 9.3; bits as in arch/x86/include/asm/mce.h.
"""

from __future__ import annotations

from functools import lru_cache

from mftriage.registers.table import RESERVED, Bits, Table, flag

_UNCORRECTED = 1 << 61

COMMON = (
    flag(63, "VAL", "the bank holds an error", "the bank holds no error"),
    flag(
        62, "OVER", "another error came before this one was read: it is lost", "no error was lost"
    ),
    flag(
        61, "UC", "the hardware could not correct it", "the hardware corrected it, or deferred it"
    ),
    flag(
        60, "EN", "reporting of this error was switched on", "reporting of it was not switched on"
    ),
    flag(59, "MISCV", "MCi_MISC has more on it", "MCi_MISC says nothing of it"),
    flag(58, "ADDRV", "MCi_ADDR has its address", "it has no address"),
    flag(
        57,
        "PCC",
        "the processor's state may be corrupt: it can't go on",
        "the processor's state is sound",
    ),
)

_REQUESTS = ("generic", "read", "write", "address/command", "scrub")
_CACHE = ("", "read", "write", "data read", "data write", "instruction fetch", "prefetch", "evict")
_NAMED = {
    0x0001: "unclassified error",
    0x0002: "microcode ROM parity error",
    0x0003: "external error",
    0x0004: "functional redundancy check error",
    0x0005: "internal parity error",
    0x0006: "SMM handler code access violation",
    0x0400: "internal timer error",
    0x0E0B: "generic I/O error",
    0x0134: "data load (L0 cache read of poisoned data)",
    0x0150: "instruction fetch (poisoned)",
    0x017A: "L3 write-back",
}


@lru_cache(maxsize=1024)
def error_words(status: int) -> str:
    """The error in words, by MCACOD (STATUS[15:0] without bit 12, which says how it is filtered)."""
    code = status & 0xEFFF
    for base, what in ((0x0080, "memory controller"), (0x0280, "memory-as-cache")):
        if code & 0xEF80 == base:
            request = code >> 4 & 7
            words = _REQUESTS[request] if request < len(_REQUESTS) else RESERVED
            channel = "unknown" if code & 15 == 15 else code & 15
            return f"{what} {words} error, channel {channel}"
    if code in _NAMED:
        return _NAMED[code]
    if code & 0xEF00 == 0x0100:
        request, level = code >> 4 & 15, code & 3
        what = _CACHE[request] if request < len(_CACHE) else "snoop" if request == 8 else ""
        kind = ("instruction", "data", "generic", "")[code >> 2 & 3]
        words = what if what.startswith(("data", "instruction")) else f"{kind} {what}".strip()
        return f"cache hierarchy error: {words}, {'level ' + str(level) if level < 3 else 'any level'} (MCACOD {code:#06x})"
    if code & 0xE800 == 0x0800:
        return f"bus or interconnect error (MCACOD {code:#06x})"
    if code & 0xEFF0 == 0x0010:
        return f"TLB error (MCACOD {code:#06x})"
    if code & 0xEFFC == 0x000C:
        return f"generic cache hierarchy error (MCACOD {code:#06x})"
    if code & 0xEC00 == 0x0400:
        return f"internal unclassified error (MCACOD {code:#06x})"
    return f"MCACOD {code:#06x}"


def _mcacod(code: int, _: int) -> str:
    words = error_words(code)
    return "not a known code" if words.startswith("MCACOD") else words


_CODES = (
    Bits(
        31, 16, "MSCOD", "model-specific error code: its meaning is in the processor's own manual"
    ),
    Bits(15, 0, "MCACOD", _mcacod),
)


def _signalled(value: int, status: int) -> str:
    if not status & _UNCORRECTED:
        return "says nothing of a corrected error"
    return "it raised a machine-check exception" if value else "it raised no exception"


def _action(value: int, status: int) -> str:
    if not status & _UNCORRECTED:
        return "says nothing of a corrected error"
    if value:
        return "software must act before the thread goes on: the data was about to be used"
    return "nothing has used the data yet"


def _threshold(value: int, status: int) -> str | None:
    if status & _UNCORRECTED:
        return "says nothing of an uncorrected error"
    return ("not tracked", "below the threshold (green)", "at the threshold (yellow)", RESERVED)[
        value
    ]


def _counted(value: int, _: int) -> str:
    return f"{value} corrected in this bank" if value else "none counted in this bank"


INTEL_STATUS = Table(
    "IA32_MCi_STATUS",
    "Intel SDM vol. 3B, 17.3.2.2 and 17.9",
    (
        *COMMON,
        Bits(56, 56, "S", _signalled),
        Bits(55, 55, "AR", _action),
        Bits(54, 53, "threshold status", _threshold),
        Bits(52, 38, "corrected errors", _counted),
        flag(
            37, "firmware updated", "firmware has changed the record", "firmware has not changed it"
        ),
        Bits(36, 32, None, "other information, of this model"),
        *_CODES,
    ),
)

_NOT_TOLD = "not told: it differs between vendors, and this record does not name one"

# Without the PROCESSOR line of a log, or for a vendor whose manual was not read.
PLAIN_STATUS = Table(
    "MCi_STATUS",
    "Intel SDM vol. 3B, 17.3.2.2; AMD APM vol. 2, 9.3.2",
    (*COMMON, Bits(56, 32, None, _NOT_TOLD), *_CODES),
)

_RESTART = (
    flag(2, "MCIP", "a machine-check exception was being handled", "no exception was being handled"),
    flag(1, "EIPV", "the saved instruction is that of the error", "the saved instruction need not be that of the error"),
    flag(0, "RIPV", "the program can go on where it was stopped", "the program can't go on where it was stopped"),
)  # fmt: skip

INTEL_MCG_STATUS = Table(
    "IA32_MCG_STATUS",
    "Intel SDM vol. 3B, 17.3.1.2; bit 12: MCG_STATUS_SEAM_NR, asm/mce.h",
    (
        Bits(63, 13, None, RESERVED),
        flag(12, "SEAM_NR", "it hit a trust domain (SEAM non-root mode)", "not in a trust domain"),
        Bits(11, 4, None, RESERVED),
        flag(3, "LMCE_S", "it was told to this CPU alone", "it was told to all CPUs"),
        *_RESTART,
    ),
)

PLAIN_MCG_STATUS = Table(
    "MCG_STATUS",
    "Intel SDM vol. 3B, 17.3.1.2; AMD APM vol. 2, 9.3.1",
    (Bits(63, 3, None, _NOT_TOLD), *_RESTART),
)


def _granule(low: int, _: int) -> str:
    return (
        f"the address is good to {1 << low} bytes" if low else "every bit of the address is valid"
    )


INTEL_MISC = Table(
    "IA32_MCi_MISC",
    "Intel SDM vol. 3B, 17.3.2.4",
    (
        Bits(63, 9, None, "model-specific information"),
        Bits(
            8,
            6,
            "address mode",
            {
                0: "offset in a segment",
                1: "linear address",
                2: "physical address",
                3: "address of the memory",
                7: "generic",
            }
            | dict.fromkeys((4, 5, 6), RESERVED),
        ),
        Bits(5, 0, "lowest valid bit", _granule),
    ),
)

"""Status words inside of firmware's records (CPER): UEFI 2.10, appendix N."""

from __future__ import annotations

from mftriage.registers.table import RESERVED, Bits, Table, flag

# cper_mem_err_status_str of drivers/firmware/efi/cper.c
_STATUS = {
    1: "error within the component",
    4: "storage error in DRAM memory",
    5: "storage error in a TLB",
    6: "storage error in a cache",
    7: "error in one or more functional units",
    8: "the component failed its self test",
    9: "overflow or underflow of an internal queue",
    16: "error detected on the bus",
    17: "virtual address not found on IO-TLB or IO-PDIR",
    18: "improper access",
    19: "access to an address that no component has",
    20: "loss of lockstep",
    21: "response not associated with a request",
    22: "bus parity error",
    23: "protocol error",
    24: "path error",
    25: "bus operation timed out",
    26: "a read was issued to data that has been poisoned",
}

ERROR_STATUS = Table(
    "error_status",
    "UEFI 2.10, appendix N, Error Status; cper_mem_err_status_str, drivers/firmware/efi/cper.c",
    (
        Bits(63, 23, None, RESERVED),
        flag(22, "Overflow", "more errors came, and are lost", "no error was lost"),
        flag(21, "First Error", "the first of several errors", None),
        flag(20, "Requester", "seen by who asked", None),
        flag(19, "Responder", "seen by who answered", None),
        flag(18, "Data", "on the data signals", None),
        flag(17, "Control", "on the control signals", None),
        flag(16, "Address", "on the address signals", None),
        Bits(15, 8, "Error Type", lambda kind, _: _STATUS.get(kind, RESERVED)),
        Bits(7, 0, None, RESERVED),
    ),
)

_CACHE_OPERATIONS = (
    *("generic", "generic read", "generic write", "data read", "data write", "instruction fetch"),
    *("prefetch", "eviction", "snooping", "snooped", "management"),
)
_TLB_OPERATIONS = (
    *("generic", "generic read", "generic write", "data read", "data write", "instruction fetch"),
    *("prefetch", "local management operation", "external management operation"),
)


def arm_error_info(error_type: str) -> Table | None:
    """The error information of an ARM processor error, by the kernel's words for its type.

    ``None`` where it is neither a cache's nor a TLB's: a bus error has other fields.
    """
    operations = next(
        (
            found
            for words, found in (("cache error", _CACHE_OPERATIONS), ("TLB error", _TLB_OPERATIONS))
            if error_type.endswith(words)
        ),
        None,
    )
    if operations is None:
        return None

    def valid(bit: int, words: str, otherwise: str | None) -> Bits:
        names = {25: "context", 26: "corrected", 27: "precise PC", 28: "restartable PC"}
        return Bits(
            bit,
            bit,
            names[bit],
            lambda value, whole: (
                None if not whole >> (bit - 22) & 1 else words if value else otherwise
            ),
        )

    def operation(value: int, whole: int) -> str | None:
        if not whole >> 1 & 1:
            return None
        return operations[value] if value < len(operations) else RESERVED

    def transaction(value: int, whole: int) -> str | None:
        return ("instruction", "data", "generic", RESERVED)[value] if whole & 1 else None

    return Table(
        "error_info",
        "UEFI 2.10, N.2.4.4.1; CPER_ARM_ERR_*, include/linux/cper.h; drivers/firmware/efi/cper-arm.c",
        (
            Bits(63, 29, None, RESERVED),
            valid(28, "the program can be restarted", "the program can't be restarted"),
            valid(27, "the saved PC is that of the error", "the saved PC need not be that of the error"),
            valid(26, "corrected", "not corrected"),
            valid(25, "the processor's context is corrupt", "the processor's context is sound"),
            Bits(24, 22, "level", lambda value, whole: f"level {value}" if whole >> 2 & 1 else None),
            Bits(21, 18, "operation", operation),
            Bits(17, 16, "transaction", transaction),
            Bits(15, 7, None, RESERVED),
            Bits(6, 0, "valid", "which of the fields above firmware filled in"),
        ),
    )  # fmt: skip


AER_UNCORRECTABLE = Table(
    "aer_uncor_status",
    "PCI Express Base Specification, 7.8.4.2; PCI_ERR_UNC_*, include/uapi/linux/pci_regs.h",
    tuple(
        Bits(bit, bit, None, words)
        for bit, words in (
            (26, "poisoned TLP blocked at the way out"),
            (25, "TLP prefix blocked"),
            (24, "atomic operation blocked at the way out"),
            (23, "multicast TLP blocked"),
            (22, "uncorrectable internal error"),
            (21, "access control violation"),
            (20, "unsupported request"),
            (19, "end-to-end checksum error (ECRC)"),
            (18, "malformed TLP"),
            (17, "receiver overflow"),
            (16, "unexpected completion"),
            (15, "completer abort"),
            (14, "completion timed out"),
            (13, "flow control protocol error"),
            (12, "poisoned TLP received"),
            (5, "surprise link down"),
            (4, "data link protocol error"),
        )
    ),
)

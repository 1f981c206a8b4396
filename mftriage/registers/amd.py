"""The registers of AMD's scalable machine-check architecture (families 17h and newer).

AMD APM vol. 2, 9.3 ("Machine Check Architecture MSRs") and the processors' PPRs, MCA_STATUS, MCA_IPID, MCA_SYND,
MCA_MISC0; error codes as in drivers/edac/mce_amd.c, units as in arch/x86/kernel/cpu/mce/amd.c
(smca_hwid_mcatypes), the fields of a memory controller as in drivers/edac/amd64_edac.c (umc_get_err_info,
decode_umc_error), those of MISC0 as in mce/amd.c (MASK_*).
"""

from __future__ import annotations

from mftriage.registers.table import RESERVED, Bits, Table, flag
from mftriage.registers.x86 import COMMON, PLAIN_MCG_STATUS

UMC_HWID = 0x96

_UNITS = {
    (0xB0, 0x00): "Load Store Unit",
    (0xB0, 0x10): "Load Store Unit",
    (0xB0, 0x01): "Instruction Fetch Unit",
    (0xB0, 0x02): "L2 Cache",
    (0xB0, 0x03): "Decode Unit",
    (0xB0, 0x05): "Execution Unit",
    (0xB0, 0x06): "Floating Point Unit",
    (0xB0, 0x07): "L3 Cache",
    (0x2E, 0x00): "Coherent Slave",
    (0x2E, 0x01): "Power, Interrupts, etc.",
    (0x2E, 0x02): "Coherent Slave",
    (0x2E, 0x04): "Memory Attached Last Level Cache",
    (UMC_HWID, 0x00): "Unified Memory Controller",
    (UMC_HWID, 0x01): "Unified Memory Controller V2",
    (0x05, 0x00): "Parameter Block",
    (0xFF, 0x00): "Platform Security Processor",
    (0xFF, 0x01): "Platform Security Processor",
    (0x01, 0x00): "System Management Unit",
    (0x01, 0x01): "System Management Unit",
    (0x01, 0x02): "Microprocessor 5 Unit",
    (0x01, 0x03): "MPDMA Unit",
    (0x18, 0x00): "Northbridge IO Unit",
    (0x46, 0x00): "PCI Express Unit",
    (0x46, 0x01): "PCI Express Unit",
    (0x50, 0x00): "Ext Global Memory Interconnect PCS Unit",
    (0x6C, 0x00): "NBIF Unit",
    (0x80, 0x00): "System Hub Unit",
    (0xA8, 0x00): "SATA Unit",
    (0xAA, 0x00): "USB Unit",
    (0x170, 0x00): "Ultra Short Reach Data Plane Controller",
    (0x180, 0x00): "Ultra Short Reach Control Plane Controller",
    (0x241, 0x00): "Global Memory Interconnect PCS Unit",
    (0x259, 0x00): "Ext Global Memory Interconnect PHY Unit",
    (0x267, 0x00): "WAFL PHY Unit",
    (0x269, 0x00): "Global Memory Interconnect PHY Unit",
}

# smca_umc_mce_desc and smca_umc2_mce_desc of drivers/edac/mce_amd.c (6.6 and older)
_UMC_CODES = {
    0x00: (
        *("DRAM ECC error", "data poison error", "SDP parity error"),
        *("advanced peripheral bus error", "address/command parity error"),
        *("write data CRC error", "DCQ SRAM ECC error", "AES SRAM ECC error"),
    ),
    0x01: (
        *("DRAM ECC error", "data poison error", "SDP parity error", RESERVED),
        *(
            "address/command parity error",
            "write data parity error",
            "DCQ SRAM ECC error",
            RESERVED,
        ),
        *("read data parity error", "Rdb SRAM ECC error", "RdRsp SRAM ECC error", "LM32 MP errors"),
    ),
}

_REQUESTS = (
    *("generic", "read", "write", "data read", "data write"),
    *("instruction fetch", "prefetch", "evict", "snoop"),
)
_CONTENT = ("instruction", "data", "generic", RESERVED)
_LEVELS = (RESERVED, "L1", "L2", "L3 or generic")
_PLACES = ("memory", RESERVED, "I/O", "generic")
_PARTIES = ("its source", "its responder", "an observer", "generic")


def _request(code: int) -> str:
    at = code >> 4 & 15
    return _REQUESTS[at] if at < len(_REQUESTS) else RESERVED


def _error_code(code: int, _: int) -> str:
    level = _LEVELS[code & 3]
    if code & 0xFFF0 == 0x0010:
        return f"TLB error: {_CONTENT[code >> 2 & 3]}, {level}"
    if code & 0xFF00 == 0x0100:
        return f"memory hierarchy error: {_request(code)} of {_CONTENT[code >> 2 & 3]}, {level}"
    if code & 0xF800 == 0x0800:
        timeout = ", timed out" if code & 0x100 else ""
        return (
            f"bus error: {_request(code)}, {_PLACES[code >> 2 & 3]}, {level}, "
            f"seen by {_PARTIES[code >> 9 & 3]}{timeout}"
        )
    if code & 0xF4FF == 0x0400:
        return "internal error" + (": hardware assertion" if code >> 8 & 3 == 2 else "")
    return "not a known code"


def unit_of(ipid: int | None) -> str | None:
    """The name of the bank's unit by MCA_IPID; ``None`` where the table has none."""
    return None if not ipid else _UNITS.get((ipid >> 32 & 0xFFF, ipid >> 48 & 0xFFFF))


def status(ipid: int | None) -> Table:
    """MCA_STATUS of the bank that ``ipid`` names."""
    codes = None
    if ipid and ipid >> 32 & 0xFFF == UMC_HWID:
        codes = _UMC_CODES.get(ipid >> 48 & 0xFFFF)

    def extended(code: int, _: int) -> str:
        if codes is None:
            return "its meaning is in the unit's table of the processor's PPR"
        return codes[code] if code < len(codes) else "not a known code"

    return Table(
        "MCA_STATUS",
        "AMD APM vol. 2, 9.3.2; PPR, MCA_STATUS; drivers/edac/mce_amd.c",
        (
            *COMMON,
            flag(56, "ErrCoreIdVal", "ErrCoreId names the core", "no core is named"),
            flag(55, "TCC", "the context of the task may be corrupt", "the task's context is sound"),
            flag(54, "PADDRV", "the address is one of the system's", None),
            flag(53, "SyndV", "MCA_SYND has the syndrome", "there is no syndrome"),
            Bits(52, 47, None, RESERVED),
            flag(46, "CECC", "ECC corrected it", "not corrected by ECC"),
            flag(45, "UECC", "ECC could not correct it", "not an error beyond ECC"),
            flag(44, "Deferred", "bad data was marked, and nothing has used it yet", "not deferred"),
            flag(43, "Poison", "data marked as bad was used", "no marked data was used"),
            Bits(42, 41, None, RESERVED),
            flag(40, "Scrub", "a scrubber found it", "not found by a scrubber"),
            Bits(39, 38, None, RESERVED),
            Bits(37, 32, "ErrCoreId", lambda core, whole: f"core {core}" if whole >> 56 & 1 else None),
            Bits(31, 30, None, RESERVED),
            Bits(29, 24, "AddrLsb", "lowest valid bit of the address, where the bank says so (MCA_CONFIG[8])"),
            Bits(23, 22, None, RESERVED),
            Bits(21, 16, "ErrorCodeExt", extended),
            Bits(15, 0, "ErrorCode", _error_code),
        ),
    )  # fmt: skip


def ipid(value: int) -> Table:
    """MCA_IPID: which unit the bank is of."""
    unit = unit_of(value) or "not a known unit"
    of_memory = value >> 32 & 0xFFF == UMC_HWID
    instance = f"channel {(value & 0xFFFFFFFF) >> 20}, as amd64_edac counts" if of_memory else None
    return Table(
        "MCA_IPID",
        "PPR, MCA_IPID; smca_hwid_mcatypes, arch/x86/kernel/cpu/mce/amd.c",
        (
            Bits(63, 48, "McaType", unit),
            Bits(47, 44, "InstanceIdHi", None),
            Bits(43, 32, "HardwareID", unit),
            Bits(31, 0, "InstanceId", instance),
        ),
    )


_PRIORITIES = {
    0: "no error",
    1: "transparent error",
    2: "corrected error",
    3: "deferred error",
    4: "uncorrected error",
    5: "fatal error",
} | dict.fromkeys((6, 7), RESERVED)


def synd(ipid: int | None) -> Table:
    """MCA_SYND, whose lowest bits name the chip select where the bank is of a memory controller."""
    of_memory = bool(ipid and ipid >> 32 & 0xFFF == UMC_HWID)
    information = (
        (
            Bits(17, 3, "ErrorInformation", None),
            Bits(2, 0, "chip select", lambda row, _: f"csrow {row}, as amd64_edac counts"),
        )
        if of_memory
        else (Bits(17, 0, "ErrorInformation", "its meaning is in the processor's PPR"),)
    )
    return Table(
        "MCA_SYND",
        "PPR, MCA_SYND; drivers/edac/amd64_edac.c",
        (
            Bits(63, 32, "Syndrome", None),
            Bits(31, 27, None, RESERVED),
            Bits(26, 24, "ErrorPriority", _PRIORITIES),
            Bits(23, 18, "Length", lambda bits, _: f"{bits} bits of the syndrome are valid"),
            *information,
        ),
    )


MISC = Table(
    "MCA_MISC0",
    "PPR, MCA_MISC0; MASK_* in arch/x86/kernel/cpu/mce/amd.c",
    (
        flag(63, "Valid", "the register has a counter", "the register has no counter"),
        flag(62, "CntP", "the counter is there", "the counter is not there"),
        flag(61, "Locked", "firmware has locked the counter", "the counter is not locked"),
        Bits(60, 56, None, "not told by this table"),
        Bits(55, 52, "LvtOffset", None),
        flag(51, "CntEn", "errors are counted", "errors are not counted"),
        Bits(
            50,
            49,
            "IntType",
            {0: "no interrupt", 1: "interrupt by the APIC", 2: "interrupt to firmware (SMI)"}
            | {3: RESERVED},
        ),
        flag(48, "Ovrflw", "the counter has reached its threshold", "the threshold is not reached"),
        Bits(47, 44, None, RESERVED),
        Bits(43, 32, "ErrCnt", "the counter: firmware or the kernel starts it at 4096 less the threshold"),
        Bits(31, 24, "BlkPtr", None),
        Bits(23, 0, None, RESERVED),
    ),
)  # fmt: skip

MCG_STATUS = PLAIN_MCG_STATUS._replace(
    source="AMD APM vol. 2, 9.3.1",
    rows=(Bits(63, 3, None, "not told by this table"), *PLAIN_MCG_STATUS.rows[1:]),
)

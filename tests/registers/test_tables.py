"""Registers bit by bit, held against what real kernels printed of the same values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mftriage.model import (
    DecodedRegister,
    Detail,
    FirmwareRecord,
    HardwareError,
    MceRegisters,
)
from mftriage.registers import amd, arm64, firmware, of_record, of_syndrome, x86
from mftriage.registers.table import Table

TABLES = [
    x86.INTEL_STATUS,
    x86.PLAIN_STATUS,
    x86.INTEL_MCG_STATUS,
    x86.PLAIN_MCG_STATUS,
    x86.INTEL_MISC,
    amd.status(None),
    amd.status(0x96_0000_0000),
    amd.MISC,
    amd.MCG_STATUS,
    amd.ipid(0x96_0000_0000),
    amd.synd(None),
    amd.synd(0x96_0000_0000),
    firmware.ERROR_STATUS,
    *(arm64.syndrome(kind << 26 | ids << 24) for kind in range(64) for ids in (0, 1)),
]


def decoded(record: HardwareError) -> dict[str, DecodedRegister]:
    return {register.register: register for register in of_record(record)}


def machine_check(**registers: object) -> dict[str, DecodedRegister]:
    mce = MceRegisters(**registers)  # type: ignore[arg-type]
    return decoded(HardwareError(source="mce", medium="log", mce=mce))


def meanings(register: DecodedRegister) -> dict[str | None, str | None]:
    return {field.name: field.meaning for field in register.fields}


def bits_set(register: DecodedRegister) -> list[str | None]:
    """The names of the single bits that are set."""
    return [f.name for f in register.fields if ":" not in f.bits and f.value == "1"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.register)
def test_tables_cover_every_bit_once_and_name_their_source(table: Table) -> None:
    seen = [bit for row in table.rows for bit in range(row.high, row.low - 1, -1)]
    assert seen == list(range(63, -1, -1))
    assert table.source


# STATUS of QEMU's injected scrub error, as in the fixture x86_64-dentry
SCRUB = machine_check(
    vendor="Intel", status="0xbd000000000000c0", mcgstatus="0xd", misc="0x8c", bank=9
)


def test_intel_status() -> None:
    status = SCRUB["IA32_MCi_STATUS"]
    assert bits_set(status) == ["VAL", "UC", "EN", "MISCV", "ADDRV", "S"]
    words = meanings(status)
    assert words["MCACOD"] == "memory controller scrub error, channel 0"
    assert words["AR"] == "nothing has used the data yet"
    assert words["PCC"] == "the processor's state is sound"
    assert bits_set(SCRUB["IA32_MCG_STATUS"]) == ["LMCE_S", "MCIP", "RIPV"]
    misc = meanings(SCRUB["IA32_MCi_MISC"])
    assert misc["address mode"] == "physical address"
    assert misc["lowest valid bit"] == "the address is good to 4096 bytes"


def test_intel_data_load_that_had_to_be_acted_on() -> None:
    """A real record: Bank 1: bd80000000100134."""
    words = meanings(machine_check(vendor="Intel", status="0xbd80000000100134")["IA32_MCi_STATUS"])
    assert words["MCACOD"] == "data load (L0 cache read of poisoned data)"
    assert (words["AR"] or "").startswith("software must act")


def test_intel_corrected_count() -> None:
    """A real record: Bank 7: cc00418000010091."""
    words = meanings(machine_check(vendor="Intel", status="0xcc00418000010091")["IA32_MCi_STATUS"])
    assert words["corrected errors"] == "262 corrected in this bank"
    assert words["OVER"] == "another error came before this one was read: it is lost"
    assert words["MCACOD"] == "memory controller read error, channel 1"
    assert words["S"] == words["AR"] == "says nothing of a corrected error"


@pytest.mark.parametrize(
    ("status", "kernel"),
    [
        # as mce_amd.c printed them: MC21_STATUS[-|-|-|AddrV|-|-|SyndV|UECC|Deferred|-|Scrub], MC18_STATUS[Over|CE|...]
        ("0x942031000400011b", "EN AddrV SyndV UECC Deferred Scrub"),
        ("0xdc2040000000011b", "OVER EN MISCV AddrV SyndV CECC"),
    ],
)
def test_amd_status_is_what_the_kernel_printed(status: str, kernel: str) -> None:
    found = machine_check(vendor="AMD", family="0x19", status=status, ipid="0x9600350f00")
    names = bits_set(found["MCA_STATUS"])
    assert [str(name).lower() for name in names] == ["val", *kernel.lower().split()]
    words = meanings(found["MCA_STATUS"])
    assert words["ErrorCodeExt"] == "DRAM ECC error"
    assert words["ErrorCode"] == "memory hierarchy error: read of generic, L3 or generic"


def test_amd_unit_and_syndrome() -> None:
    """Real lines: IPID: 0x0000109600650f00, Syndrome: 0x9a4a00000b800008, of a deferred error."""
    found = machine_check(
        vendor="AMD", status="0x942031000400011b", ipid="0x109600650f00", synd="0x9a4a00000b800008"
    )
    unit, syndrome = meanings(found["MCA_IPID"]), meanings(found["MCA_SYND"])
    assert unit["HardwareID"] == unit["McaType"] == "Unified Memory Controller"
    assert unit["InstanceId"] == "channel 6, as amd64_edac counts"
    assert syndrome["ErrorPriority"] == "deferred error"
    assert syndrome["Length"] == "32 bits of the syndrome are valid"
    assert syndrome["chip select"] == "csrow 0, as amd64_edac counts"


def test_amd_codes_that_nobody_has_told() -> None:
    of_core = meanings(
        machine_check(vendor="AMD", status="0x8000000000050000", ipid="0xb000000000")["MCA_STATUS"]
    )
    assert of_core["ErrorCodeExt"] == "its meaning is in the unit's table of the processor's PPR"
    assert of_core["ErrorCode"] == "not a known code"
    beyond = machine_check(vendor="AMD", status="0x80000000003f0000", ipid="0x123456700000000")
    assert meanings(beyond["MCA_IPID"])["HardwareID"] == "not a known unit"
    controller = machine_check(vendor="AMD", status="0x80000000003f0000", ipid="0x9600000000")
    assert meanings(controller["MCA_STATUS"])["ErrorCodeExt"] == "not a known code"


@pytest.mark.parametrize("vendor", [None, "Zhaoxin"])
def test_without_a_known_vendor_only_what_all_share(vendor: str | None) -> None:
    found = machine_check(
        vendor=vendor,
        status="0xbd800000001000c0",
        mcgstatus="0x5",
        misc="0x86",
        ipid="0x9600000000",
    )
    assert list(found) == ["MCi_STATUS", "MCG_STATUS"]
    status = found["MCi_STATUS"]
    assert bits_set(status) == ["VAL", "UC", "EN", "MISCV", "ADDRV"]
    (other,) = (field for field in status.fields if field.bits == "56:32")
    assert other.name is None and (other.meaning or "").startswith("not told")


def test_old_amd_is_not_read_as_the_scalable_one() -> None:
    """A real record of family 10h: MC4_STATUS[-|CE|MiscV|-|AddrV|CECC]: 0x9c414000a0080813."""
    found = machine_check(vendor="AMD", family="0x10", status="0x9c414000a0080813", misc="0x1")
    assert list(found) == ["MCi_STATUS"]
    by_cpuid = machine_check(vendor="AMD", cpuid="0x100f42", status="0x9c414000a0080813")
    assert by_cpuid == {"MCi_STATUS": found["MCi_STATUS"]}
    assert "MCA_STATUS" in machine_check(vendor="AMD", cpuid="0xa20f12", status="0x8" + 15 * "0")


def test_reserved_codes_are_told_as_such() -> None:
    misc = meanings(
        machine_check(vendor="Intel", status="0x8" + 15 * "0", misc="0x146")["IA32_MCi_MISC"]
    )
    assert misc["address mode"] == "reserved"
    unknown = meanings(
        machine_check(vendor="Intel", status="0x8000000000000000")["IA32_MCi_STATUS"]
    )
    assert unknown["MCACOD"] == "not a known code"


def test_firmware_status_word() -> None:
    """A real line: error_status: 0x0000000000000400 ("Storage error in DRAM memory")."""
    record = HardwareError(
        source="ghes", medium="log", firmware=FirmwareRecord(error_status="0x440400")
    )
    words = meanings(decoded(record)["error_status"])
    assert words["Error Type"] == "storage error in DRAM memory"
    assert words["Data"] == "on the data signals"
    assert words["Overflow"] == "more errors came, and are lost"
    assert "Address" not in words


def test_arm_processor_error() -> None:
    """A real section: "cache level: 1", "the error has not been corrected", and no more."""
    record = HardwareError(
        source="ghes",
        medium="log",
        error_type="ARM processor error: cache error",
        details=(Detail(name="error_info", value="0x0000000000400014"),),
    )
    words = meanings(decoded(record)["error_info"])
    told = {name: meaning for name, meaning in words.items() if meaning and name != "valid"}
    assert told == {"corrected": "not corrected", "level": "level 1"}


def test_a_kind_of_arm_error_without_a_table() -> None:
    record = HardwareError(
        source="ghes",
        medium="log",
        error_type="ARM processor error: bus error",
        details=(Detail(name="error_info", value="0x400014"),),
    )
    assert of_record(record) == ()


def test_pcie_error() -> None:
    """A real line: aer_uncor_status: 0x00100000."""
    record = HardwareError(
        source="ghes", medium="log", details=(Detail(name="aer_uncor_status", value="0x00100000"),)
    )
    (field,) = decoded(record)["aer_uncor_status"].fields
    assert (field.bits, field.meaning) == ("20", "unsupported request")


@pytest.mark.parametrize(
    ("esr", "said"),
    [
        # real crashes: FnV makes the difference between the two
        ("0x96000410", {"EC": "data abort in the kernel", "FnV": "the fault address is not valid",
                        "DFSC": "synchronous external abort, not on a table walk"}),
        ("0x96000010", {"FnV": "the fault address is valid", "SET": "recoverable, or not told"}),
        ("0x96000007", {"DFSC": "translation fault, level 3", "SET": None}),
        ("0xbe000011", {"EC": "SError interrupt", "AET": "uncontainable", "DFSC": "asynchronous SError"}),
        ("0xbf000002", {"ISS": "of the processor's own making: see its manual"}),
        ("0x86000010", {"IFSC": "synchronous external abort, not on a table walk"}),
        ("0xf2000800", {"EC": "an exception of another class"}),
    ],
)  # fmt: skip
def test_exception_syndrome(esr: str, said: dict[str, str | None]) -> None:
    register = of_syndrome(esr)
    assert register is not None
    words = meanings(register)
    assert {name: words.get(name) for name in said} == said


NUMBERS = st.none() | st.text(max_size=20) | st.integers(-5, 1 << 65).map(hex)


@given(
    vendor=st.sampled_from([None, "Intel", "AMD", "Hygon", "Zhaoxin", "?"]),
    numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    kind=st.sampled_from(["", "cache error", "TLB error"]),
)
def test_any_register(vendor: str | None, numbers: tuple[str | None, ...], kind: str) -> None:
    status, mcg, misc, ipid, synd, info = numbers
    record = HardwareError(
        source="mce",
        medium="log",
        error_type=kind,
        mce=MceRegisters(
            vendor=vendor, status=status, mcgstatus=mcg, misc=misc, ipid=ipid, synd=synd, cpuid=synd
        ),
        firmware=FirmwareRecord(error_status=status),
        details=(Detail(name="error_info", value=info or ""), Detail(name="aer_uncor_status", value=misc or "")),
    )  # fmt: skip
    for register in of_record(record):
        whole = 0
        for field in register.fields:
            low = int(field.bits.rpartition(":")[2])
            whole |= int(field.value, 16) << low
            assert field.meaning != ""
        if register.register != "aer_uncor_status":
            assert whole == int(register.value, 16)  # no bit is passed over
    of_syndrome(status)

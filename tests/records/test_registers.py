"""What a machine-check bank's registers say (SDM vol. 3B, 17)."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.model import Severity
from mftriage.records.mce import VENDOR_AMD, from_registers

VAL, OVER, UC, EN, MISCV, ADDRV, PCC, S, AR = (1 << bit for bit in range(63, 54, -1))
SCRUB, DATA_LOAD = 0x00C0, 0x0134


@pytest.mark.parametrize(
    ("status", "severity", "is_memory"),
    [
        (VAL | EN | 0x009F, "corrected", True),
        (VAL | UC | EN | S | SCRUB, "recoverable", True),  # SRAO
        (VAL | UC | EN | ADDRV | S | AR | DATA_LOAD, "recoverable", True),  # SRAR
        (VAL | UC | EN | PCC | 0x0150, "fatal", False),  # the cache's own
        (VAL | UC | EN | PCC | DATA_LOAD, "fatal", False),
        (VAL | UC | EN | ADDRV | PCC | DATA_LOAD, "fatal", None),  # either
        (VAL | UC | EN | PCC | 0x0E0B, "fatal", False),  # bus error
        (VAL | EN | 0x0010, "corrected", False),  # TLB
        (VAL | EN | 0x0151, "corrected", False),  # cache hierarchy
    ],
)
def test_severity_and_memory(status: int, severity: Severity, is_memory: bool | None) -> None:
    record = from_registers(medium="log", status=status, bank=1, vendor=0)
    assert (record.severity, record.is_memory) == (severity, is_memory)


def test_amd_deferred_and_unknown_code() -> None:
    record = from_registers(medium="log", status=VAL | 1 << 44, bank=1, vendor=VENDOR_AMD)
    assert (record.severity, record.is_memory) == ("deferred", None)


def test_address_only_where_it_is_valid() -> None:
    status = VAL | UC | SCRUB
    without = from_registers(medium="log", status=status, bank=1, addr=0x1000)
    assert (without.physical_address, without.mce and without.mce.addr) == (None, None)
    whole = from_registers(medium="log", status=status | ADDRV, bank=1, addr=0x12345)
    assert (whole.physical_address, whole.physical_address_mask) == ("0x12345", None)
    lsb = from_registers(
        medium="log", status=status | ADDRV | MISCV, bank=1, addr=0x12345, misc=0x86
    )
    assert (lsb.physical_address, lsb.physical_address_mask) == ("0x12340", "0xffffffffffffffc0")


@pytest.mark.parametrize(
    ("wall", "shown"),
    [(1795377370, "2026-11-22T19:56:10Z"), (0, None), (5, None), (1 << 63, None), (None, None)],
)
def test_wall_time(wall: int | None, shown: str | None) -> None:
    assert from_registers(medium="memory", status=VAL, bank=0, wall=wall).wall_time == shown


U64 = st.integers(0, 2**64 - 1)


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(U64, U64, U64, st.one_of(st.none(), U64), st.sampled_from((None, 0, 2, 9, 77)))
def test_any_registers(
    status: int, addr: int, misc: int, mcgstatus: int | None, vendor: int | None
) -> None:
    record = from_registers(
        medium="log",
        status=status,
        bank=3,
        addr=addr,
        misc=misc,
        mcgstatus=mcgstatus,
        vendor=vendor,
        wall=addr,
    )
    assert record.severity in get_args(Severity) and record.error_type
    # AMD's may be a normalized one; MISC says what Intel's is
    if vendor in (VENDOR_AMD, 9) or (
        vendor == 0 and status & MISCV and misc >> 6 & 7 not in (2, 3)
    ):
        assert record.physical_address is None or status & ADDRV
    else:
        assert (record.physical_address is not None) == bool(status & ADDRV)
    if record.physical_address is not None:
        assert int(record.physical_address, 16) & ~addr == 0
    if not status & UC:
        assert record.severity in ("corrected", "deferred")


def test_a_tlb_of_amd_is_no_memory() -> None:
    """Its address is a linear one: a page must never be blamed for it."""
    status = VAL | UC | EN | ADDRV | PCC | 0x0015
    record = from_registers(medium="log", status=status, bank=1, vendor=VENDOR_AMD)
    assert record.is_memory is False

"""VMCOREINFO: text that a damaged dump can fill with anything."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.dump import open_dump
from mftriage.dump.vmcoreinfo import VmcoreInfo
from tests import craft

REAL = b"""OSRELEASE=7.3.4+deb13-cloud-amd64
BUILD-ID=8B0C3F6E0D5F4E9D7C1B6A29384756AFBECD1021
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff82a14f00
OFFSET(page._mapcount)=48
SIZE(page)=64
LENGTH(mem_section)=2048
NUMBER(phys_base)=-18874368
NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=0xf5000000
SYMBOL(init_top_pgt)=ffffffff82a10000
CRASHTIME=1795400000
"""


def test_values() -> None:
    info = VmcoreInfo(REAL)
    assert info.release == "7.3.4+deb13-cloud-amd64"
    assert info.build_id == "8b0c3f6e0d5f4e9d7c1b6a29384756afbecd1021"
    assert info.symbol("init_uts_ns") == 0xFFFFFFFF82A14F00
    assert info.offset("page._mapcount") == 48
    assert (info.size("page"), info.length("mem_section")) == (64, 2048)
    assert info.number("phys_base") == -18874368
    assert info.number("PAGE_SLAB_MAPCOUNT_VALUE") == 0xF5000000
    assert (info.arch, info.page_size, info.crash_time) == ("x86_64", 4096, 1795400000)


def test_what_is_not_there_is_none() -> None:
    info = VmcoreInfo(b"")
    assert info.values == {}
    found = [
        *(info.release, info.build_id, info.page_size, info.crash_time, info.arch),
        *(info.symbol("x"), info.offset("x"), info.size("x"), info.length("x"), info.number("x")),
    ]
    assert found == [None] * 10


@pytest.mark.parametrize(
    "line",
    [
        *("SYMBOL(x)=-1", "SYMBOL(x)=10000000000000000", "OFFSET(x)=-8", "OFFSET(x)=1048576"),
        *("SIZE(x)=-1", "SIZE(x)=1048577", "LENGTH(x)=-1", "LENGTH(x)=99999999999"),
        *("NUMBER(x)=0x10000000000000000", f"NUMBER(x)=-{1 << 64}"),
    ],
)
def test_values_that_no_kernel_has(line: str) -> None:
    info = VmcoreInfo(line.encode())
    found = [
        *(info.symbol("x"), info.offset("x"), info.size("x"), info.length("x"), info.number("x")),
    ]
    assert found == [None] * 5


@pytest.mark.parametrize("size", ["0", "-4096", "4095", "1024", "131072", "4K", "", "0x1000"])
def test_page_sizes_that_cannot_be(size: str) -> None:
    assert VmcoreInfo(f"PAGESIZE={size}\n".encode()).page_size is None


@pytest.mark.parametrize("size", [4096, 16384, 65536])
def test_page_sizes(size: int) -> None:
    assert VmcoreInfo(f"PAGESIZE={size}\n".encode()).page_size == size


@pytest.mark.parametrize("build_id", ["xyz", "12", "0" * 7, "../../etc/passwd", "ab cd ef 01"])
def test_build_ids_that_cannot_be(build_id: str) -> None:
    """It becomes part of a path and of a URL."""
    assert VmcoreInfo(f"BUILD-ID={build_id}\n".encode()).build_id is None


def test_a_nul_ends_it() -> None:
    assert VmcoreInfo(b"A=1\n\0B=2\n").values == {"A": "1"}


KEYS = (
    *(b"PAGESIZE", b"BUILD-ID", b"OSRELEASE", b"CRASHTIME", b"SYMBOL(a)", b"SIZE(a)"),
    *(b"OFFSET(a)", b"LENGTH(a)", b"NUMBER(a)", b"NUMBER(kimage_voffset)"),
)
VALUE = st.one_of(st.binary(max_size=20), st.integers().map(lambda i: str(i).encode()))


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.tuples(st.sampled_from(KEYS), VALUE)).map(
            lambda pairs: b"\n".join(key + b"=" + value for key, value in pairs)
        ),
    )
)
def test_anything_goes_in_and_only_sane_values_come_out(raw: bytes) -> None:
    info = VmcoreInfo(raw)
    numbers = (info.symbol, info.offset, info.size, info.length, info.number)
    assert all(isinstance(number("a"), int | None) for number in numbers)
    assert info.page_size in (None, 4096, 8192, 16384, 32768, 65536)
    assert info.arch in (None, "x86_64", "arm64")
    assert isinstance(info.crash_time, int | None)
    assert info.build_id is None or int(info.build_id, 16) >= 0


def test_found_in_memory(tmp_path: Path) -> None:
    """A hypervisor's dump has no note; the kernel keeps one ready in its memory."""
    page = craft.note("VMCOREINFO", 0, craft.X86_INFO).ljust(craft.PAGE, b"\0")
    decoy = bytes(100) + b"VMCOREINFO\0\0OSRELEASE=9.9\n"
    memory = bytes(craft.PAGE) * 3 + decoy.ljust(craft.PAGE, b"\0") + page
    path = tmp_path / "vmcore"
    path.write_bytes(craft.elf_core({0x100000: memory}))
    with closing(open_dump(path)) as dump:
        assert dump.vmcoreinfo.release == "7.3.4-test"
    path.write_bytes(craft.elf_core({0x100000: memory[: -craft.PAGE]}))
    with closing(open_dump(path)) as dump:
        assert not dump.vmcoreinfo.values

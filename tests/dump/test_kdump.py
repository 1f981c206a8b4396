"""The reader of kdump-compressed files, on files built by hand and cut."""

from __future__ import annotations

import resource
import struct
import zlib
from pathlib import Path

import pytest
import zstandard
from cramjam import snappy
from drgn import FaultError
from hypothesis import given, settings
from hypothesis import strategies as st
from lzallright import LZOCompressor

from mftriage.dump.kdump import Index, KdumpMemory, Layout
from mftriage.files import LocalFile

PAGE = 4096
HEAD = 2 * PAGE  # header and sub-header

PAGES = st.dictionaries(
    st.integers(0, 70_000),
    st.sampled_from([bytes(PAGE), b"\x01" * PAGE, bytes(range(256)) * 16]),
    min_size=1,
    max_size=12,
)


def build(pages: dict[int, bytes], how: str, *, bitmaps: int = 2, start: int = 0) -> bytes:
    """The part of the format that the reader reads; ``start``: the first pfn of this file of several."""
    last = max(pages) + 1
    bitmap = bytearray(-(-last // (8 * PAGE)) * PAGE)
    for pfn in pages:
        bitmap[pfn >> 3] |= 1 << (pfn & 7)
    kept = {pfn: page for pfn, page in sorted(pages.items()) if pfn >= start}
    at = HEAD + bitmaps * len(bitmap) + 24 * len(kept)
    table, data = b"", b""
    for page in kept.values():
        flags = {"plain": 0, "zlib": 1, "lzo": 2, "snappy": 4, "zstd": 0x20}[how]
        packed = page
        if how == "zlib":
            packed = zlib.compress(page)
        elif how == "zstd":
            packed = zstandard.ZstdCompressor().compress(page)
        elif how == "lzo":
            packed = LZOCompressor().compress(page)
        elif how == "snappy":
            packed = bytes(snappy.compress_raw(page))
        table += struct.pack("<QIIQ", at + len(data), len(packed), flags, 0)
        data += packed
    return bytes(HEAD) + bytes(bitmap) * bitmaps + table + data


def layout_of(pages: dict[int, bytes], bitmaps: int = 2, start: int = 0) -> Layout:
    size = -(-(max(pages) + 1) // (8 * PAGE)) * PAGE
    top = max(pages) + 1 if bitmaps == 2 else 8 * size
    return Layout(PAGE, HEAD, bitmaps * size, top, start)


def opened(path: Path) -> LocalFile:
    return LocalFile(path.open("rb"))


def memory(path: Path, data: bytes, layout: Layout) -> KdumpMemory:
    path.write_bytes(data)
    return KdumpMemory(opened(path), layout)


@settings(max_examples=60, deadline=None)
@given(PAGES, st.sampled_from(["plain", "zlib", "lzo", "snappy", "zstd"]), st.sampled_from([1, 2]))
def test_every_page(
    tmp_path_factory: pytest.TempPathFactory, pages: dict[int, bytes], how: str, bitmaps: int
) -> None:
    path = tmp_path_factory.mktemp("kdump") / "dump"
    reader = memory(path, build(pages, how, bitmaps=bitmaps), layout_of(pages, bitmaps))
    for pfn, page in pages.items():
        assert reader.read(pfn * PAGE, PAGE) == page
        assert reader.read(pfn * PAGE + 100, 8) == page[100:108]
    for pfn in {pfn + 1 for pfn in pages} - set(pages):
        with pytest.raises(FaultError):
            reader.read(pfn * PAGE, 1)


def test_a_read_over_several_pages(tmp_path: Path) -> None:
    pages = {5: b"a" * PAGE, 6: b"b" * PAGE}
    reader = memory(tmp_path / "dump", build(pages, "zstd"), layout_of(pages))
    assert reader.read(5 * PAGE + 4090, 12) == b"aaaaaabbbbbb"
    with pytest.raises(FaultError):
        reader.read(6 * PAGE + 4090, 12)


@settings(max_examples=60, deadline=None)
@given(PAGES, st.sampled_from(["plain", "zlib", "lzo", "snappy", "zstd"]), st.floats(0, 1))
def test_cut_anywhere(
    tmp_path_factory: pytest.TempPathFactory, pages: dict[int, bytes], how: str, share: float
) -> None:
    """What lies behind the cut is missing; what lies before it is right."""
    whole = build(pages, how)
    path = tmp_path_factory.mktemp("kdump") / "dump"
    reader = memory(path, whole[: int(len(whole) * share)], layout_of(pages))
    for pfn, page in pages.items():
        try:
            assert reader.read(pfn * PAGE, PAGE) == page
        except FaultError:
            assert share < 1


@settings(max_examples=60, deadline=None)
@given(PAGES, st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=20))
def test_damaged_anywhere(
    tmp_path_factory: pytest.TempPathFactory,
    pages: dict[int, bytes],
    changes: list[tuple[int, int]],
) -> None:
    raw = bytearray(build(pages, "zlib"))
    for at, value in changes:
        raw[at % len(raw)] = value
    reader = memory(tmp_path_factory.mktemp("kdump") / "dump", bytes(raw), layout_of(pages))
    for pfn in pages:
        try:
            assert len(reader.read(pfn * PAGE, PAGE)) == PAGE
        except (FaultError, AssertionError) as error:
            assert isinstance(error, FaultError) or "libkdumpfile" in str(error)


def frame(declared: int | None) -> bytes:
    """A zstd frame (RFC 8878) that claims a content size, and holds a block of zeros 120 MB long in pieces."""
    head = b"\xe0" + struct.pack("<Q", declared) if declared is not None else b"\x00\x58"
    blocks = [struct.pack("<I", 131072 << 3 | 1 << 1 | (n == 899))[:3] + b"\0" for n in range(900)]
    return b"\x28\xb5\x2f\xfd" + head + b"".join(blocks)


@pytest.mark.parametrize("declared", [1 << 40, 4 << 30, 131072 * 900, PAGE, 0, None])
def test_a_frame_that_claims_too_much(tmp_path: Path, declared: int | None) -> None:
    page = frame(declared)
    raw = build({3: b"a" * PAGE}, "plain")
    raw = raw[: HEAD + 2 * PAGE] + struct.pack("<QIIQ", HEAD + 2 * PAGE + 24, len(page), 0x20, 0)
    reader = memory(tmp_path / "dump", raw + page, layout_of({3: b""}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FaultError):
        reader.read(3 * PAGE, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {3: b"a" * PAGE}
    reader = memory(tmp_path / "dump", build(pages, "plain"), layout_of(pages))

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pread", broken)
    with pytest.raises(FaultError, match="Input/output error"):
        reader.read(3 * PAGE, 8)


def test_one_file_of_several(tmp_path: Path) -> None:
    """makedumpfile --split: the bitmap is of all, the descriptors of this file's part."""
    pages = {3: b"a" * PAGE, 9: b"b" * PAGE, 40_000: b"c" * PAGE}
    reader = memory(tmp_path / "dump", build(pages, "plain", start=9), layout_of(pages, start=9))
    assert reader.read(9 * PAGE, 1) == b"b"
    assert reader.read(40_000 * PAGE, 1) == b"c"
    with pytest.raises(FaultError):
        reader.read(3 * PAGE, 1)


def test_expected_size(tmp_path: Path) -> None:
    pages = {1: b"a" * PAGE, 2: b"b" * PAGE}
    whole = build(pages, "plain")
    for length in (len(whole), len(whole) - 1, HEAD + 100):
        path = tmp_path / str(length)
        path.write_bytes(whole[:length])
        complete = length >= Index(opened(path), layout_of(pages)).expected_size()
        assert complete == (length == len(whole))


def test_a_bitmap_that_claims_the_world(tmp_path: Path) -> None:
    """2^31 blocks of bitmap in a file of three pages: an answer, and soon."""
    path = tmp_path / "dump"
    path.write_bytes(bytes(3 * PAGE))
    index = Index(opened(path), Layout(1 << 20, PAGE, (1 << 31) * (1 << 20), 1 << 40))
    assert index.find(12345) is None
    assert index.expected_size() > 3 * PAGE

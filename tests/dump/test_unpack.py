"""Wrapped dumps: what comes out is what went in, and a cut one gives all that is left of it."""

from __future__ import annotations

import gzip
import lzma
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.dump.unpack import Unpacked, unpack
from mftriage.errors import DumpError, MftriageError
from mftriage.files import LocalFile
from tests import craft

# Pages that compress half-way, as real ones do, with a hole of zeros between.
_RANDOM = random.Random(7)
PAGES = {pfn: _RANDOM.randbytes(2048) + bytes(2048) for pfn in range(60)}
DATA = craft.kdump({**PAGES, 80: bytes(4096)})

WRAPPERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,  # as the zstd program does
    "flattened": craft.flattened,
}


def unpacked(data: bytes) -> Unpacked:
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- unpack() closes it
    file.write(data)
    file.flush()
    return unpack(LocalFile(file), lambda label, done, total: None)


def content(result: Unpacked) -> bytes:
    with result.file.stream() as file:
        return file.read()


@pytest.mark.parametrize("name", WRAPPERS)
def test_comes_out_as_it_went_in(name: str) -> None:
    result = unpacked(WRAPPERS[name](DATA))
    assert (result.layers, result.whole) == ([name], True)
    assert content(result) == DATA


def test_layers_in_layers() -> None:
    result = unpacked(gzip.compress(lzma.compress(craft.flattened(DATA))))
    assert (result.layers, result.whole) == (["gz", "xz", "flattened"], True)
    assert content(result) == DATA


def test_plain_is_left_alone() -> None:
    result = unpacked(DATA)
    assert (result.layers, result.whole) == ([], True)
    assert content(result) == DATA


@pytest.mark.parametrize("name", ["gz", "xz", "zst"])
def test_several_streams_behind_each_other(name: str) -> None:
    """pigz, pixz and pzstd write such files, and so does ``cat``."""
    half = len(DATA) // 2
    result = unpacked(WRAPPERS[name](DATA[:half]) + WRAPPERS[name](DATA[half:]))
    assert content(result) == DATA and result.whole


def test_long_window() -> None:
    """zstd --long=31, which people use for dumps."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compress(DATA)
    assert content(unpacked(packed)) == DATA


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["gz", "xz", "flattened"])
def test_cut_stream_gives_what_is_left(name: str, share: float) -> None:
    packed = WRAPPERS[name](DATA)
    result = unpacked(packed[: int(len(packed) * share)])
    left = content(result)
    assert result.whole is False
    if name == "flattened":  # written back to front: the end of the dump stands first
        assert left[len(DATA) - 5000 :] == DATA[len(DATA) - 5000 :]
    else:
        assert DATA.startswith(left)
        assert len(left) >= len(DATA) * (share - 0.35)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_cut_zst_gives_what_is_left(share: float) -> None:
    packed = zstandard.ZstdCompressor(level=1).compress(DATA)
    result = unpacked(packed[: int(len(packed) * share)])
    left = content(result)
    assert DATA.startswith(left) and len(left) < len(DATA)
    assert result.whole is False


@pytest.mark.parametrize("name", ["gz", "xz", "zst"])
def test_damaged_stream_is_not_whole(name: str) -> None:
    packed = bytearray(WRAPPERS[name](DATA))
    for at in range(len(packed) // 2, len(packed) // 2 + 64):
        packed[at] ^= 0xFF
    result = unpacked(bytes(packed))
    left = content(result)
    assert result.whole is False and len(left) <= len(DATA)


def test_flattened_without_its_end_mark_is_not_whole() -> None:
    assert unpacked(craft.flattened(DATA, end=False)).whole is False


@pytest.mark.parametrize(
    ("offset", "size"), [(-5, 10), (2**62, 10), (2**63 - 1, 10), (0, -3), (0, 2**62)]
)
def test_flattened_with_places_that_cannot_be(offset: int, size: int) -> None:
    header = craft.flattened(b"", end=False)
    piece = offset.to_bytes(8, "big", signed=True) + size.to_bytes(8, "big", signed=True)
    try:
        result = unpacked(header + piece + bytes(64))
    except DumpError as error:
        assert error.remedy
    else:
        assert result.whole is False
        result.file.close()


def test_zeros_take_no_room() -> None:
    """A stream of zeros is small when packed and must stay small when unpacked."""
    core = craft.elf_core({0: bytes(64 << 20)})
    result = unpacked(zstandard.ZstdCompressor().compress(core))
    status = os.fstat(result.file.stream().fileno())
    result.file.close()
    assert status.st_size == len(core)
    assert status.st_blocks * 512 <= 2 << 20


def zeros(size: int, before: bytes = b"") -> bytes:
    """A zstd file of ``before`` and then ``size`` bytes of zeros."""
    compress = zstandard.ZstdCompressor().compress
    return (compress(before) if before else b"") + compress(bytes(64 << 20)) * (size >> 26)


@pytest.mark.parametrize("name", ["gz", "xz", "zst"])
def test_what_is_no_dump_is_not_unpacked(name: str) -> None:
    seen: list[tuple[str, int, int]] = []
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- unpack() closes it
    file.write(WRAPPERS[name](bytes(16 << 20)))
    file.flush()
    with file, pytest.raises(DumpError, match="not a crash dump"):
        unpack(LocalFile(file), lambda *step: seen.append(step))
    assert not seen


def test_zeros_behind_the_end_are_left() -> None:
    """A terabyte of them is 32 MB when packed."""
    seen: list[tuple[str, int, int]] = []
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- unpack() closes it
    packed = zeros(1 << 40, craft.elf_core({0x1000: b"x" * 4096}))
    file.write(packed)
    file.flush()
    result = unpack(LocalFile(file), lambda *step: seen.append(step))
    assert result.file.size < 2 << 30
    assert result.whole
    result.file.close()


def test_zeros_that_the_header_declares_are_kept() -> None:
    core = bytearray(craft.elf_core({0x1000: b"x" * 4096}))
    core[64 + 56 + 32 : 64 + 56 + 40] = (2 << 30).to_bytes(8, "little")  # p_filesz
    result = unpacked(zeros(2 << 30, bytes(core)))
    assert result.file.size == len(core) + (2 << 30)
    result.file.close()


def test_zeros_packed_twice() -> None:
    bomb = zeros(256 << 30)
    with pytest.raises(DumpError, match="unpacks to more"):
        unpacked(zstandard.ZstdCompressor().compress(bomb * 20))


def test_layers_end() -> None:
    """A file that holds itself, however often, is not unpacked for ever."""
    data = DATA
    for _ in range(12):
        data = gzip.compress(data)
    result = unpacked(data)
    assert len(result.layers) < 12
    result.file.close()


def test_no_room_for_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with open(tmp_path / "dump.gz", "w+b") as file:
        file.write(gzip.compress(DATA))
        file.flush()
        with pytest.raises(MftriageError) as caught:
            unpack(LocalFile(file), lambda label, done, total: None)
    assert caught.value.exit_code == 3 and caught.value.remedy


@pytest.mark.parametrize(("free", "refused"), [(100 << 20, True), (600 << 20, False)])
def test_room_is_left_for_others(monkeypatch: pytest.MonkeyPatch, free: int, refused: bool) -> None:
    real = os.fstatvfs

    def nearly_full(fd: int) -> os.statvfs_result:
        fields = list(real(fd)[:10])
        fields[1], fields[2], fields[4] = 4096, (1 << 40) // 4096, free // 4096
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    packed = zstandard.compress(DATA + b"x" * (80 << 20))
    if not refused:
        assert unpacked(packed).whole
        return
    with pytest.raises(DumpError, match="no space left") as caught:
        unpacked(packed)
    assert "TMPDIR" in caught.value.remedy


def test_progress_ends_at_the_end() -> None:
    seen: list[tuple[str, int, int]] = []
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- unpack() closes it
    packed = gzip.compress(DATA)
    file.write(packed)
    file.flush()
    unpack(LocalFile(file), lambda *step: seen.append(step)).file.close()
    assert seen[-1][1:] == (len(packed), len(packed))


@settings(max_examples=120, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from(list(WRAPPERS)),
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6),
    st.integers(0, 100),
)
def test_only_our_errors(name: str, changes: list[tuple[int, int]], percent: int) -> None:
    packed = WRAPPERS[name](DATA[:40000])
    damaged = craft.patched(packed, changes)[: 8 + len(packed) * percent // 100]
    try:
        unpacked(damaged).file.close()
    except MftriageError as error:
        assert error.exit_code == 3


def test_memory_that_runs_out_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole dump would be told to be cut."""

    class Starved:
        def __init__(self, **_: object) -> None: ...

        def stream_reader(self, *_: object, **__: object) -> object:
            raise zstandard.ZstdError("zstd decompress error: Allocation error : not enough memory")

    packed = WRAPPERS["zst"](DATA)
    monkeypatch.setattr(zstandard, "ZstdDecompressor", Starved)
    with pytest.raises(MemoryError):
        unpacked(packed)

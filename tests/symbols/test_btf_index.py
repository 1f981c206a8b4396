"""The index of types that is kept: found again, and never trusted when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from mftriage.symbols import btf_index
from mftriage.symbols.btf_index import index_of, scan


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(btf_index, "_SMALL", 0)
    return tmp_path / "mftriage" / "btf"


def words(count: int = 300) -> memoryview:
    """Pointers (12 bytes each), named 1, 2, 3 and so on."""
    raw = b"".join(
        number.to_bytes(4, "little") + (2 << 24).to_bytes(4, "little") + bytes(4)
        for number in range(1, count + 1)
    )
    return memoryview(raw).cast("I")


def kept(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_kept_and_found_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index_of(words())
    assert list(first.starts) == list(range(0, 900, 3)) and list(first.names) == list(range(1, 301))
    monkeypatch.setattr(btf_index, "scan", None)  # asked again, it would fail
    assert index_of(words()) == first


def test_another_kernel_has_another_file(folder: Path) -> None:
    index_of(words(300))
    assert len(index_of(words(301)).starts) == 301
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "long", "another"])
def test_a_damaged_file_is_made_anew(folder: Path, damage: str) -> None:
    right = index_of(words())
    file = kept(folder)
    raw = bytearray(file.read_bytes())
    if damage == "cut":
        raw = raw[:-100]
    elif damage == "flipped":
        raw[2000] ^= 1
    elif damage == "empty":
        raw.clear()
    elif damage == "long":
        raw += bytes(8)
    else:
        index_of(words(5000))
        raw = bytearray(max(folder.iterdir(), key=lambda p: p.stat().st_size).read_bytes())
    file.write_bytes(raw)
    assert index_of(words()) == right


def test_no_place_to_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(btf_index, "_SMALL", 0)
    assert index_of(words()) == scan(words())


def test_old_ones_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btf_index, "_KEPT", 3)
    for count in range(100, 110):
        index_of(words(count))
    assert len(list(folder.iterdir())) == 3

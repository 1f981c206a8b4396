"""What all tests share: the fixtures' capsules as plain ELF cores, and a cache folder of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.craft import FIXTURES


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test does may end up in the user's folders, or come from them."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
    patch.delenv("DEBUGINFOD_URLS", raising=False)
    yield
    patch.undo()


def _plain(name: str, folder: Path) -> Path:
    target = folder / f"{name}.elf"
    with (FIXTURES / name / "capsule.elf.zst").open("rb") as source, target.open("wb") as out:
        zstandard.ZstdDecompressor().copy_stream(source, out)
    return target


@pytest.fixture(scope="session")
def x86_elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The x86_64 fixture's capsule as a plain ELF core: not to be written to."""
    return _plain("x86_64-dentry", tmp_path_factory.mktemp("x86"))


@pytest.fixture(scope="session")
def arm_elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arm64 fixture's capsule as a plain ELF core: not to be written to."""
    return _plain("arm64-dentry", tmp_path_factory.mktemp("arm"))

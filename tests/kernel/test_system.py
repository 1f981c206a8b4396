"""Which machine it was: what tells a switch that a kernel lacks from one that can't be read."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mftriage.dump import open_dump
from mftriage.kernel.gather import gather
from mftriage.kernel.system import has_symbol
from mftriage.symbols import Kernel, open_kernel
from mftriage.triage import conclude
from tests.craft import FIXTURES


@pytest.mark.parametrize(
    ("known", "found"),
    [({"new": 1, "old": 2}, True), ({"old": 2}, False), ({"new": 1}, True), ({}, None)],
)
def test_has_symbol(known: dict[str, int], found: bool | None) -> None:
    kernel = cast(Kernel, SimpleNamespace(address=known.get))
    assert has_symbol(kernel, "new", "old") is found


@pytest.mark.parametrize(
    ("name", "value", "has"),
    [
        ("x86_64-dentry", 1, True),
        ("x86_64-ignored-oops", 0, True),
        ("arm64-dentry", 1, True),
        ("x86_64-trixie-bit-flip", None, False),  # 6.12
        ("x86_64-bookworm-anon", None, None),  # a lean capsule of a time when nobody asked
    ],
)
def test_the_sysctl_of_real_kernels(name: str, value: int | None, has: bool) -> None:
    with closing(open_dump(FIXTURES / name / "capsule.elf.zst")) as dump:
        triage: Any = conclude(gather(open_kernel(dump), 1.0))
    assert triage.panic_on_unrecoverable_memory_failure == value
    assert triage.has_panic_on_unrecoverable_memory_failure is has

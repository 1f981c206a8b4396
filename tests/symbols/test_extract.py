"""What a lean capsule keeps of the tables: enough for the same answers, whatever it is fed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from drgn import Architecture, Platform, Program, TypeKind
from hypothesis import given
from hypothesis import strategies as st

from mftriage.symbols.btf import Btf
from mftriage.symbols.extract import KernelSymbol, NotedSymbols, from_json, to_json
from tests.symbols.test_btf import sample

ALL_KINDS = frozenset(TypeKind)


class Source:
    """A table of two symbols that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def lookup(self, name: str) -> int | None:
        self.asked += 1
        if name == "lost":
            raise ValueError("damaged")
        return {"init_task": 0xFFFFFFFF82A10000}.get(name)

    def nearest(self, address: int) -> KernelSymbol | None:
        self.asked += 1
        return KernelSymbol("init_task", address - 8) if address > 100 else None


def program() -> Program:
    return Program(Platform(Architecture.X86_64))


def noted() -> NotedSymbols:
    symbols = NotedSymbols(Source())
    assert symbols.lookup("init_task") == 0xFFFFFFFF82A10000
    assert symbols.lookup("nothing") is None
    assert symbols.lookup("lost") is None
    assert symbols.nearest(1000) == KernelSymbol("init_task", 992)
    assert symbols.nearest(5) is None
    return symbols


def test_each_name_is_asked_for_once() -> None:
    symbols = noted()
    assert isinstance(symbols.source, Source)
    before = symbols.source.asked
    symbols.lookup("init_task")
    symbols.nearest(5)
    assert symbols.source.asked == before


def test_notes_come_back() -> None:
    content = json.loads(json.dumps(to_json(noted(), b"\x00BTF")))
    read = from_json(content)
    assert read is not None
    symbols, btf = read
    assert btf == b"\x00BTF"
    assert symbols.lookup("init_task") == 0xFFFFFFFF82A10000
    assert symbols.nearest(1000) == KernelSymbol("init_task", 992)
    assert symbols.lookup("never asked") is None and symbols.nearest(7) is None


@pytest.mark.parametrize("name", ["node", "either", "bits", "color", "int"])
def test_an_extracted_type_is_the_same(name: str) -> None:
    whole = Btf(program(), sample().data())
    made = whole.find(ALL_KINDS, name)
    assert made is not None
    said = str(made)
    for member in made.members or () if made.kind in (TypeKind.STRUCT, TypeKind.UNION) else ():
        assert member.type is not None  # as an analysis looks at them
    part = Btf(program(), whole.extract())
    again = part.find(ALL_KINDS, name)
    assert again is not None
    assert str(again) == said
    assert part.find(ALL_KINDS, "absent") is None
    assert len(whole.extract()) <= len(sample().data())


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(JUNK)
def test_junk_is_no_note(content: Any) -> None:
    assert from_json(content) is None


@given(st.sampled_from(["symbols", "nearest", "btf"]), JUNK)
def test_a_damaged_note_does_no_harm(key: str, value: Any) -> None:
    content = copy.deepcopy(to_json(noted(), b"\x00BTF"))
    content[key] = value
    read = from_json(content)
    assert read is None or isinstance(read[0], NotedSymbols)


def test_a_bomb_is_bounded() -> None:
    read = from_json(to_json(NotedSymbols(), bytes(100 << 20)))
    assert read is not None and len(read[1]) <= 8 << 20

"""BTF built by hand and out of real kernels: every name is found, and damage does no harm."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from pathlib import Path

import drgn
import pytest
from drgn import Architecture, FaultError, Platform, Program, Type, TypeKind
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.dump import open_dump
from mftriage.kernel.direct_map import LinearReader
from mftriage.symbols import open_kernel
from mftriage.symbols.btf import Btf
from tests.craft import patched

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT = range(9, 17)
DECL_TAG, TYPE_TAG, ENUM64 = range(17, 20)
SIGNED, BOOL = 1 << 24, 4 << 24
ALL_KINDS = frozenset(TypeKind)


class Builder:
    """A .BTF section, type by type (include/uapi/linux/btf.h)."""

    def __init__(self) -> None:
        self.types = bytearray()
        self.strings = bytearray(b"\0")
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def add(
        self, kind: int, name: str, third: int, *words: int, count: int = 0, flag: bool = False
    ) -> int:
        info = flag << 31 | kind << 24 | count
        self.types += struct.pack(f"<{3 + len(words)}I", self.name(name), info, third, *words)
        self.count += 1
        return self.count

    def data(self, header: int = 24) -> bytes:
        fields = (0xEB9F, 1, 0, header, 0, len(self.types), len(self.types), len(self.strings))
        head = struct.pack("<HBBIIIII", *fields).ljust(header, b"\0")
        return head + self.types + self.strings


def sample() -> Builder:
    b = Builder()
    number = b.add(INT, "int", 4, SIGNED | 32)
    long = b.add(INT, "unsigned long", 8, 64)
    b.add(INT, "_Bool", 1, BOOL | 8)
    b.add(FLOAT, "double", 8)
    node = b.count + 1
    pointer = node + 1
    b.add(STRUCT, "node", 24, *(b.name("next"), pointer, 0, b.name("key"), long, 64), *(b.name("low"), number, 128), count=3)  # fmt: skip
    b.add(PTR, "", node)
    array = b.add(ARRAY, "", 0, number, long, 7)
    b.add(UNION, "either", 28, *(b.name("one"), array, 0, b.name("two"), node, 0), count=2)
    b.add(STRUCT, "bits", 4, *(b.name("a"), number, 3 << 24, b.name("b"), number, 5 << 24 | 3), count=2, flag=True)  # fmt: skip
    b.add(ENUM, "color", 4, b.name("RED"), 0, b.name("GREEN"), 7, count=2)
    b.add(ENUM, "signed", 4, b.name("MINUS"), 0xFFFFFFFF, count=1, flag=True)
    b.add(ENUM64, "wide", 8, b.name("WIDE"), 1, 2, count=1)
    volatile = b.add(VOLATILE, "", number)
    b.add(TYPEDEF, "atomic", b.add(CONST, "", volatile))
    b.add(TYPEDEF, "tagged", b.add(TYPE_TAG, "rcu", number))
    b.add(TYPEDEF, "opaque", b.add(FWD, "elsewhere", 0))
    b.add(FWD, "elsewhere_union", 0, flag=True)
    b.add(RESTRICT, "", pointer)
    proto = b.add(FUNC_PROTO, "", number, *(b.name("x"), long, 0, 0), count=2)
    b.add(FUNC, "function", proto)
    b.add(TYPEDEF, "callback", b.add(PTR, "", proto))
    variable = b.add(VAR, "runqueues", node, 1)
    b.add(DATASEC, ".data..percpu", 64, variable, 0, 24, count=1)
    b.add(DECL_TAG, "tag", variable, 0xFFFFFFFF)
    return b


def program() -> Program:
    return Program(Platform(Architecture.X86_64))


def find(btf: Btf, kind: TypeKind, name: str) -> Type:
    found = btf.find(frozenset({kind}), name)
    assert found is not None, name
    return found


def test_types() -> None:
    btf = Btf(program(), sample().data())
    assert drgn.sizeof(find(btf, TypeKind.INT, "int")) == 4
    assert find(btf, TypeKind.INT, "int").is_signed
    assert not find(btf, TypeKind.INT, "unsigned long").is_signed
    assert find(btf, TypeKind.BOOL, "_Bool").kind == TypeKind.BOOL
    node = find(btf, TypeKind.STRUCT, "node")
    assert [(m.name, m.bit_offset) for m in node.members] == [
        ("next", 0),
        ("key", 64),
        ("low", 128),
    ]
    assert node.member("next").type.type.type_name() == "struct node"
    assert drgn.sizeof(find(btf, TypeKind.UNION, "either")) == 28
    array = find(btf, TypeKind.UNION, "either").member("one").type
    assert (array.kind, array.length) == (TypeKind.ARRAY, 7)
    assert find(btf, TypeKind.TYPEDEF, "atomic").type.qualifiers == (
        drgn.Qualifiers.CONST | drgn.Qualifiers.VOLATILE
    )
    assert find(btf, TypeKind.TYPEDEF, "tagged").type.type_name() == "int"
    assert btf.find(ALL_KINDS, "elsewhere") is None  # declared, but not known
    assert not find(btf, TypeKind.TYPEDEF, "opaque").type.is_complete()
    proto = find(btf, TypeKind.TYPEDEF, "callback").type.type
    assert proto.kind == TypeKind.FUNCTION and proto.is_variadic


def test_bit_fields() -> None:
    p = program()
    bits = find(Btf(p, sample().data()), TypeKind.STRUCT, "bits")
    value = drgn.Object.from_bytes_(p, bits, struct.pack("<I", 0b10110_101))
    # two's complement: int members are signed
    assert (value.a.value_(), value.b.value_()) == (-3, -10)


def test_constants() -> None:
    btf = Btf(program(), sample().data())
    found = {name: btf.constant(name) for name in ("RED", "GREEN", "MINUS", "WIDE")}
    assert {n: o.value_() for n, o in found.items() if o is not None} == {
        **{"RED": 0, "GREEN": 7, "MINUS": -1},
        "WIDE": 1 | 2 << 32,
    }
    assert btf.constant("BLUE") is None and btf.constant("int") is None
    assert btf.constant("one") is None  # a member's name


def test_variables() -> None:
    btf = Btf(program(), sample().data())
    kind = btf.variable("runqueues")
    assert kind is not None and kind.type_name() == "struct node"
    assert btf.variable("node") is None


def test_only_the_wanted_kind() -> None:
    btf = Btf(program(), sample().data())
    assert btf.find(frozenset({TypeKind.UNION}), "node") is None
    assert btf.find(ALL_KINDS, "nod") is None and btf.find(ALL_KINDS, "") is None
    assert btf.find(ALL_KINDS, "ode") is None  # the end of another name


def test_a_longer_header() -> None:
    """Since 7.1 a layout section may stand behind the header: hdr_len counts."""
    btf = Btf(program(), sample().data(header=64))
    assert drgn.sizeof(find(btf, TypeKind.STRUCT, "node")) == 24


@pytest.mark.parametrize("data", [b"", b"\x9f\xeb\x01", bytes(24), b"\xff" * 64])
def test_what_is_no_btf(data: bytes) -> None:
    with pytest.raises(LookupError):
        Btf(program(), data)


def test_every_name_of_a_large_table() -> None:
    """The search finds what a walk finds: names that are each other's ends and beginnings too."""
    b = Builder()
    names = [f"{'x' * (n % 5)}s{n}" for n in range(600)]
    for size, name in enumerate(names):
        b.add(STRUCT if size % 3 else UNION, name, size)
    btf = Btf(program(), b.data())
    for size, name in enumerate(names):
        kind = TypeKind.STRUCT if size % 3 else TypeKind.UNION
        assert find(btf, kind, name).size == size


# damage

# What a damaged table may raise: what asks catches these, and the report goes on without the answer.
HARMLESS = (LookupError, FaultError, ValueError, SyntaxError, TypeError, RecursionError)
NAMES = (
    *("int", "unsigned long", "_Bool", "double", "node", "either", "bits", "color", "signed"),
    *("wide", "atomic", "tagged", "elsewhere", "callback", "runqueues", "RED", "MINUS", "WIDE"),
)


def explore(kind: Type, depth: int = 0) -> None:
    """Look at a type as a question would: its size, its members, what it points at."""
    if depth > 6:
        return
    if kind.kind in (TypeKind.STRUCT, TypeKind.UNION) and kind.is_complete():
        for member in kind.members[:50]:
            explore(member.type, depth + 1)
    elif kind.kind in (TypeKind.POINTER, TypeKind.TYPEDEF, TypeKind.ARRAY):
        explore(kind.type, depth + 1)


def ask_everything(data: bytes, names: tuple[str, ...] = NAMES) -> None:
    try:
        btf = Btf(program(), data)
    except LookupError:
        return
    for name in names:
        for question in (
            lambda name=name: btf.find(ALL_KINDS, name),
            lambda name=name: btf.variable(name),
        ):
            try:
                if (found := question()) is not None:
                    explore(found)
            except HARMLESS:
                pass
        with suppress(*HARMLESS):
            btf.constant(name)


WORDS = st.sampled_from((0, 1, 5, 6, 0xFF, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF))


@settings(max_examples=250, derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes(changes: list[tuple[int, int]]) -> None:
    ask_everything(patched(sample().data(), changes))


@settings(max_examples=250, derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 250), WORDS), min_size=1, max_size=5))
def test_damaged_words(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(sample().data())
    for index, value in changes:
        at = index * 4 % (len(raw) - 4)
        raw[at : at + 4] = struct.pack("<I", value)
    ask_everything(bytes(raw))


@pytest.mark.parametrize("kind", [TYPEDEF, CONST, VOLATILE, TYPE_TAG, FUNC, PTR])
def test_a_type_that_is_made_of_itself(kind: int) -> None:
    b = Builder()
    b.add(kind, "loop", 2)
    b.add(kind, "back", 1)
    b.add(TYPEDEF, "in", 1)
    with pytest.raises(LookupError):
        Btf(program(), b.data()).find(ALL_KINDS, "in")


@pytest.fixture(scope="module")
def real(x86_elf: Path) -> bytes:
    """The whole .BTF of the x86_64 fixture's kernel."""
    dump = open_dump(x86_elf)
    kernel = open_kernel(dump)
    start, size = kernel.tables()[0]
    data = LinearReader(kernel).read(start, size)
    dump.close()
    return data


def test_real_types(real: bytes) -> None:
    btf = Btf(program(), real)
    page = find(btf, TypeKind.STRUCT, "page")
    assert drgn.sizeof(page) == 64 and page.has_member("flags")
    hwpoison = btf.constant("PG_hwpoison")
    assert hwpoison is not None and 0 < hwpoison.value_() < 64
    explore(find(btf, TypeKind.STRUCT, "task_struct"))


@pytest.mark.parametrize("seed", range(6))
def test_real_types_damaged(real: bytes, seed: int) -> None:
    chance = random.Random(seed)
    places = [chance.randrange(len(real)) for _ in range(10 ** (1 + seed % 3))]
    names = ("page", "task_struct", "slab", "kmem_cache", "pageflags", "atomic_t", "PG_hwpoison")
    ask_everything(patched(real, ((at, chance.randrange(256)) for at in places)), names)

"""kallsyms tables in every layout that scripts/kallsyms.c has written, and in a real kernel."""

from __future__ import annotations

import random
import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from drgn import Architecture, FaultError, Platform, Program
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage.dump import open_dump
from mftriage.dump.vmcoreinfo import VmcoreInfo
from mftriage.symbols import Kernel, open_kernel
from mftriage.symbols.kallsyms import Kallsyms
from tests.craft import patched

IMAGE = 0xFFFFFFFF81000000
TABLES = 0xFFFFFFFF82000000
LAYOUTS = ("6.2", "6.5", "6.5 absolute-percpu", "7.0")


@dataclass
class Tables:
    """The tables' bytes from ``TABLES`` on, and what VMCOREINFO says of them."""

    data: bytes
    info: VmcoreInfo
    symbols: dict[str, int]

    def open(self, data: bytes | None = None) -> Kallsyms:
        raw = (self.data if data is None else data).ljust(-(-len(self.data) // 4096) * 4096, b"\0")
        program = Program(Platform(Architecture.X86_64))

        def reader(address: int, size: int, _: int, __: bool) -> bytes:
            return raw[address - TABLES : address - TABLES + size]

        program.add_memory_segment(TABLES, len(raw), reader, False)
        return Kallsyms(program, self.info)


# The first token numbers, which no name has as bytes, stand for pieces of names; the others for themselves.
PIECES = (b"", b"_in", b"ker", b"__", b"x" * 50)
TOKENS = [*PIECES, *(bytes([code]) for code in range(len(PIECES), 256))]


def packed(name: str) -> bytes:
    """A name with its type character, as token numbers with the length in front."""
    raw, codes = b"T" + name.encode(), []
    while raw:
        code = next((c for c, p in enumerate(PIECES) if p and raw.startswith(p)), raw[0])
        codes.append(code)
        raw = raw[len(TOKENS[code]) :]
    count = len(codes)
    length = bytes([count]) if count < 128 else bytes([count & 0x7F | 0x80, count >> 7])
    return length + bytes(codes)


def build(symbols: dict[str, int], layout: str = "6.5", align: int = 8) -> Tables:
    """What scripts/kallsyms.c writes: symbols by address, seqs_of_names by name."""
    symbols = {"_stext": IMAGE, **symbols}
    ordered = sorted(symbols.items(), key=lambda pair: pair[1])
    blob = bytearray()
    at: dict[str, int] = {}

    def place(name: str, data: bytes) -> None:
        blob.extend(bytes(-len(blob) % align))
        at[name] = TABLES + len(blob)
        blob.extend(data)

    names, markers = bytearray(), []
    for index, (name, _) in enumerate(ordered):
        if index % 256 == 0:
            markers.append(len(names))
        names += packed(name)
    seqs = b"".join(
        index.to_bytes(3, "big")
        for index in sorted(range(len(ordered)), key=lambda i: ordered[i][0].encode())
    )
    starts, strings = [], bytearray()
    for text in TOKENS:
        starts.append(len(strings))
        strings += text + b"\0"

    def offsets() -> bytes:
        if layout == "7.0":  # relative to their own place
            base = TABLES + len(blob) + -len(blob) % align
            return b"".join(
                struct.pack("<i", address - (base + 4 * i))
                for i, (_, address) in enumerate(ordered)
            )
        if layout == "6.5 absolute-percpu":
            return b"".join(struct.pack("<i", IMAGE - 1 - address) for _, address in ordered)
        return b"".join(struct.pack("<I", address - IMAGE) for _, address in ordered)

    place("kallsyms_num_syms", struct.pack("<I", len(ordered)))
    place("kallsyms_names", bytes(names))
    place("kallsyms_markers", struct.pack(f"<{len(markers)}I", *markers))
    if layout == "6.2":
        place("kallsyms_seqs_of_names", seqs)
    place("kallsyms_token_table", bytes(strings))
    place("kallsyms_token_index", struct.pack("<256H", *starts))
    place("kallsyms_offsets", offsets())
    if layout != "7.0":
        place("kallsyms_relative_base", struct.pack("<Q", IMAGE))
    if layout != "6.2":
        place("kallsyms_seqs_of_names", seqs)
    lines = [f"SYMBOL(_stext)={IMAGE:x}"]
    for name, address in at.items():
        if name not in ("kallsyms_markers", "kallsyms_seqs_of_names"):
            lines.append(f"SYMBOL({name})={address:x}")
    return Tables(bytes(blob), VmcoreInfo("\n".join(lines).encode()), symbols)


def some(count: int, seed: int = 1) -> dict[str, int]:
    chance = random.Random(seed)
    names = {f"{chance.choice(('', '_', '__', 'x' * 150))}{chance.choice(('in', 'kernel', 'sys'))}_{n}" for n in range(count)}  # fmt: skip
    return {name: IMAGE + chance.randrange(1, 1 << 24) & ~1 for name in sorted(names)}


def walk(symbols: dict[str, int], address: int) -> tuple[set[str], int] | None:
    """The last address at or below, and all its names: by going through everything."""
    ordered = sorted(symbols.values())
    at = bisect_right(ordered, address)
    if at == 0:
        return None
    found = ordered[at - 1]
    return {name for name, value in symbols.items() if value == found}, found


@pytest.mark.parametrize(("layout", "align"), [*((layout, 8) for layout in LAYOUTS), ("7.0", 4)])
@pytest.mark.parametrize("count", [20, 255, 256, 257, 700])
def test_every_name(layout: str, count: int, align: int) -> None:
    tables = build(some(count), layout, align)
    kallsyms = tables.open()
    assert kallsyms.tables()
    for name, address in tables.symbols.items():
        assert kallsyms.lookup(name) == address, name
    for name in ("", "zzz", "_", "_stex", "_stextt", "\xff", "in_"):
        assert kallsyms.lookup(name) is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nearest_is_what_a_walk_finds(layout: str) -> None:
    tables = build(some(600), layout)
    kallsyms = tables.open()
    chance = random.Random(2)
    edges = list(tables.symbols.values())[:100]
    asked = [IMAGE + chance.randrange(-10, 1 << 25) for _ in range(300)]
    for address in [*edges, *(e - 1 for e in edges), *asked, 0, 2**64 - 1]:
        found, expected = kallsyms.nearest(address), walk(tables.symbols, address)
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert found.address == expected[1] and found.name in expected[0]


@settings(max_examples=30, derandomize=True, deadline=None, database=None)
@given(
    st.dictionaries(  # beside others: the place of unexported tables is told by more than one name
        st.from_regex(r"[a-zA-Z_.][a-zA-Z0-9_.$]{0,200}", fullmatch=True),
        st.integers(1, 1 << 24).map(lambda n: IMAGE + n),
        min_size=1,
        max_size=80,
    ),
    st.sampled_from(LAYOUTS),
)
def test_any_names(symbols: dict[str, int], layout: str) -> None:
    tables = build({**some(300), **symbols}, layout)
    kallsyms = tables.open()
    assert {name: kallsyms.lookup(name) for name in tables.symbols} == tables.symbols


@pytest.mark.parametrize("missing", ["kallsyms_names", "kallsyms_offsets", "kallsyms_num_syms"])
def test_a_kernel_that_does_not_say_where_they_are(missing: str) -> None:
    tables = build(some(50))
    raw = b"\n".join(line for line in tables.info.raw.split(b"\n") if missing.encode() not in line)
    with pytest.raises(LookupError, match=missing):
        Tables(tables.data, VmcoreInfo(raw), {}).open()


# damage

GOOD = build(some(600))
# open_kernel() goes on without types for the first three; ask() notes what is raised later
HARMLESS = (LookupError, FaultError, ValueError)


def ask_everything(tables: Tables, data: bytes) -> None:
    try:
        kallsyms = tables.open(data)
    except HARMLESS:
        return
    for name in ("_stext", "nothing", *list(tables.symbols)[:20]):
        with suppress(*HARMLESS):
            kallsyms.lookup(name)
    for address in (0, IMAGE, IMAGE + 0x1234, 2**64 - 1):
        with suppress(*HARMLESS):
            kallsyms.nearest(address)
    for start, size in kallsyms.tables():
        assert size >= 0 and start >= 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(12))
def test_damaged_bytes(layout: str, seed: int) -> None:
    """Found by name or not at all: no crash, no endless walk."""
    chance = random.Random(seed)
    tables = build(some(300, seed), layout)
    for number in (1, 5, 50):
        places = [chance.randrange(len(tables.data)) for _ in range(number)]
        ask_everything(tables, patched(tables.data, ((at, chance.choice((0, 0x7F, 0x80, 0xFF, chance.randrange(256)))) for at in places)))  # fmt: skip


def test_a_lookup_never_lies() -> None:
    """A name that is found in damaged tables still has the address of some symbol, or none."""
    seqs = GOOD.data
    chance = random.Random(3)
    for _ in range(30):
        at = chance.randrange(len(seqs))
        try:
            kallsyms = GOOD.open(patched(seqs, [(at, seqs[at] ^ 1 << chance.randrange(8))]))
            found = kallsyms.lookup("_stext")
        except Exception:
            continue
        assert found in (IMAGE, None)


# a real kernel


def linear(kernel: Kernel) -> Iterator[tuple[str, int]]:
    """Every symbol, as kernel/kallsyms.c of 7.3 goes through them."""
    info, read = kernel.dump.vmcoreinfo, kernel.program.read
    place = {n: info.symbol(f"kallsyms_{n}") or 0 for n in ("names", "token_table", "token_index")}
    (count,) = struct.unpack("<I", read(info.symbol("kallsyms_num_syms"), 4))
    starts = struct.unpack("<256H", read(place["token_index"], 512))
    strings = read(place["token_table"], starts[-1] + 64)
    pieces = [strings[at : strings.index(b"\0", at)] for at in starts]
    names = read(place["names"], place["token_table"] - place["names"])
    offsets_at = info.symbol("kallsyms_offsets") or 0
    offsets = struct.unpack(f"<{count}i", read(offsets_at, 4 * count))
    at = 0
    for index in range(count):
        length = names[at]
        at += 1
        if length & 0x80:
            length, at = length & 0x7F | names[at] << 7, at + 1
        name = b"".join([pieces[code] for code in names[at : at + length]])[1:]
        at += length
        yield name.decode(), offsets_at + 4 * index + offsets[index] & (1 << 64) - 1


@pytest.mark.parametrize("machine", ["x86_elf", "arm_elf"])
def test_real_names(machine: str, request: pytest.FixtureRequest) -> None:
    """All names that VMCOREINFO has an address for, and a sample of the rest against a walk of the tables."""
    elf: Path = request.getfixturevalue(machine)
    dump = open_dump(elf)
    kernel = open_kernel(dump)
    assert kernel.tier == "btf"
    exported = [
        key[7:-1]
        for key in dump.vmcoreinfo.values
        if key.startswith("SYMBOL(") and key != "SYMBOL(mem_section)"
    ]  # which is the array's address, not the pointer's
    agreed = [n for n in exported if kernel.address(n) == dump.vmcoreinfo.symbol(n)]
    assert len(agreed) > 10
    assert [n for n in exported if kernel.address(n) not in (None, dump.vmcoreinfo.symbol(n))] == []
    addresses: dict[str, set[int]] = {}
    for name, address in linear(kernel):
        addresses.setdefault(name, set()).add(address)
    assert len(addresses) > 50_000
    sample = random.Random(4).sample(sorted(addresses), 400)
    for name in sample:
        assert kernel.address(name) in addresses[name], name
        (address, *_) = addresses[name]
        place = kernel.nearest(address)
        assert place is not None and place.offset == 0 and address in addresses[place.name]
    dump.close()

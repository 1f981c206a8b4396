"""A module's own names and types, in memory built by hand: its ELF symbols, and BTF split from the image's."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest
from drgn import FaultError, Program, Type, TypeKind, TypeMember

from mftriage.symbols import Kernel
from mftriage.symbols.modules import find_module
from tests.craft import patched
from tests.kernel.memories import BASE, Memory, kernel_of
from tests.symbols.test_btf import INT, STRUCT, Builder

NAMES = ["", "init_module", "mc_devices", "mc_devices_lock", "undefined", "last"]
VALUES = {"init_module": 0x1000, "mc_devices": 0x2000, "mc_devices_lock": 0x3000, "last": 0x4000}


def types_of(program: Program) -> dict[str, Type]:
    """The few members that are read, in an order of our own."""
    u32, u64 = program.int_type("u32", 4, False), program.int_type("u64", 8, False)

    def made(name: str, size: int, /, **members: tuple[Type, int]) -> Type:
        listed = [TypeMember(kind, member, 8 * at) for member, (kind, at) in members.items()]
        return program.struct_type(name, size, listed)

    names = program.array_type(program.int_type("char", 1, True), 56)
    node = made("list_head", 16, next=(u64, 0), prev=(u64, 8))
    table = made("mod_kallsyms", 24, symtab=(u64, 0), num_symtab=(u32, 8), strtab=(u64, 16))
    base = made("btf", 40, strings=(u64, 24))
    btf = made(
        *("btf", 40),
        data=(u64, 0),
        data_size=(u32, 8),
        start_str_off=(u32, 12),
        base_btf=(program.pointer_type(base), 16),
        strings=(u64, 24),
    )
    return {
        "module": made(
            *("module", 96),
            list=(node, 8),
            name=(names, 24),
            kallsyms=(program.pointer_type(table), 80),
        ),
        "btf_module": made(
            *("btf_module", 32),
            list=(node, 0),
            module=(u64, 16),
            btf=(program.pointer_type(btf), 24),
        ),
    }


def kernel_with(memory: Memory, symbols: dict[str, int]) -> Kernel:
    kernel = kernel_of(memory, symbols)
    made = types_of(kernel.program)

    def find(_: Program, kinds: frozenset[TypeKind], name: str, __: str | None) -> Type | None:
        return made.get(name) if TypeKind.STRUCT in kinds else None

    kernel.program.register_type_finder("modules", find, enable_index=0)
    return kernel


def split_btf() -> tuple[bytes, bytes]:
    """The image's strings, and a module's BTF that uses two of them."""
    base = b"\0unsigned int\0list\0"
    b = Builder()
    start = len(base)
    number = 1  # a type of the image
    members = (
        *(base.index(b"list"), number, 0),
        *(start + b.name("label"), number, 64 * 8),
        *(start + b.name("ce_count"), number, 80 * 8),
    )
    b.add(INT, "filler", 4, 32)
    at = len(b.types)
    b.add(STRUCT, "dimm_info", 96, *members, count=3)
    data = bytearray(b.data())
    for place in (24, 24 + at):  # names, too, are numbered on from the end of the image's
        struct.pack_into("<I", data, place, struct.unpack_from("<I", data, place)[0] + start)
    return base, bytes(data)


def build(btf: bytes | None = None, with_btf: bool = True) -> Kernel:
    memory = Memory()
    strings = b"\0".join(name.encode() for name in NAMES) + b"\0"
    symbols = b"".join(
        struct.pack(
            "<IBBHQQ",
            strings.index(b"\0" + name.encode() + b"\0") + 1 if name else 0,
            *(0, 0, 1 if name in VALUES else 0, VALUES.get(name, 0), 0),
        )
        for name in NAMES
    )
    table = memory.put(struct.pack("<QI4xQ", memory.put(symbols), len(NAMES), memory.put(strings)))
    heads = memory.put(bytes(16)), memory.put(bytes(16))
    other = memory.put(bytes(24) + b"edac_core_too".ljust(72, b"\0"))
    module = memory.put(bytes(24) + b"edac_core".ljust(56, b"\0") + struct.pack("<Q", table))
    for node, following in ((heads[0], other + 8), (other + 8, module + 8), (module + 8, heads[0])):
        memory.set(node, struct.pack("<Q", following))
    base, data = split_btf()
    base_at = memory.put(base)
    data = btf if btf is not None else data
    image = memory.put(struct.pack("<QIIQQQ", 0, 0, 0, 0, base_at, 0))
    own = memory.put(struct.pack("<QIIQQQ", memory.put(data), len(data), len(base), image, 0, 0))
    entry = memory.put(struct.pack("<QQQQ", heads[1], 0, module, own))
    memory.set(heads[1], struct.pack("<Q", entry if with_btf else heads[1]))
    return kernel_with(memory, {"modules": heads[0], "btf_modules": heads[1]})


def test_symbols() -> None:
    module = find_module(build(), "edac_core")
    assert module is not None
    assert {name: module.lookup(name) for name in VALUES} == VALUES
    assert module.lookup("undefined") is None
    assert module.lookup("mc_dev") is None and module.lookup("devices") is None


def test_a_module_that_is_not_loaded() -> None:
    assert find_module(build(), "edac") is None
    assert find_module(kernel_of(Memory(), {}), "edac_core") is None


def test_types() -> None:
    module = find_module(build(), "edac_core")
    assert module is not None
    assert module.struct_offsets("dimm_info") == {"list": 0, "label": 64, "ce_count": 80}
    with pytest.raises(LookupError, match="no struct mem_ctl_info"):
        module.struct_offsets("mem_ctl_info")


def test_a_module_without_types() -> None:
    module = find_module(build(with_btf=False), "edac_core")
    assert module is not None
    with pytest.raises(LookupError, match="without BTF"):
        module.struct_offsets("dimm_info")


@pytest.mark.parametrize("seed", range(60))
def test_damaged_types(seed: int) -> None:
    chance = random.Random(seed)
    data = split_btf()[1]
    changes = [(chance.randrange(len(data)), chance.randrange(256)) for _ in range(1 + seed % 6)]
    module = find_module(build(patched(data, changes)), "edac_core")
    assert module is not None
    with suppress(LookupError, FaultError):
        module.struct_offsets("dimm_info")


@pytest.mark.parametrize("size", [0, 23, 24, 30, 50, 90])
def test_cut_types(size: int) -> None:
    module = find_module(build(split_btf()[1][:size]), "edac_core")
    assert module is not None
    with pytest.raises(LookupError):
        module.struct_offsets("dimm_info")


def test_a_list_of_modules_that_breaks_ends() -> None:
    memory = Memory()
    head = memory.put(bytes(16))
    module = memory.put(bytes(96))
    memory.set(head, struct.pack("<Q", module + 8))
    memory.set(module + 8, struct.pack("<Q", BASE - 4096))
    with pytest.raises(FaultError):
        find_module(kernel_with(memory, {"modules": head}), "edac_core")

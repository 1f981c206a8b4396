"""A kernel whose memory is made by hand: bytes at addresses, symbols, and types with the members asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from drgn import FaultError, Program, Type, TypeKind, TypeMember

from mftriage.dump import Dump, open_dump
from mftriage.dump.memory import platform_of
from mftriage.symbols import Kernel, open_kernel

HERE = Path(__file__).parent / "hardware"
BASE = 0xFFFF888000000000


class Memory:
    """Memory that grows by what is put into it; reading elsewhere is a ``FaultError``."""

    def __init__(self) -> None:
        self.data = bytearray()

    def put(self, data: bytes) -> int:
        """The address at which ``data`` now lies."""
        address = BASE + len(self.data)
        self.data += data + bytes(-len(data) % 16)
        return address

    def set(self, address: int, data: bytes) -> None:
        at = address - BASE
        self.data[at : at + len(data)] = data

    def read(self, address: int, size: int, _offset: int, _physical: bool) -> bytes:
        at = address - BASE
        if at < 0 or at + size > len(self.data):
            raise FaultError("not in the dump", address)
        return bytes(self.data[at : at + size])


def kernel_of(
    memory: Memory,
    symbols: Mapping[str, int],
    structs: Mapping[str, Mapping[str, int]] | None = None,
) -> Kernel:
    """``structs``: the byte offset of each member of each struct."""
    program = Program(platform_of("x86_64"))
    program.add_memory_segment(0, (1 << 64) - 1, memory.read, False)
    byte = program.int_type("u8", 1, False)

    def find(_: Program, kinds: frozenset[TypeKind], name: str, __: str | None) -> Type | None:
        if structs is None or name not in structs or TypeKind.STRUCT not in kinds:
            return None
        members = [TypeMember(byte, member, 8 * at) for member, at in structs[name].items()]
        return program.struct_type(name, max(structs[name].values()) + 8, members)

    program.register_type_finder("by-hand", find, enable_index=0)

    @contextmanager
    def unrecorded() -> Iterator[None]:
        yield

    dump: Any = SimpleNamespace(
        arch="x86_64",
        page_size=4096,
        sidecar=SimpleNamespace(findings={}, is_capsule=False),
        memory=SimpleNamespace(unrecorded=unrecorded),
        vmcoreinfo=SimpleNamespace(symbol=symbols.get),
    )
    kernel = Kernel(cast(Dump, dump), program)
    kernel.tier = "btf"
    kernel._address = symbols.get
    return kernel


def capsule(name: str) -> Kernel:
    """The kernel of a lean capsule beside this file; close its dump."""
    return open_kernel(open_dump(HERE / f"{name}.elf.zst"))

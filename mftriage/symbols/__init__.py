"""What names and types mean in a dump: three tiers, the best that can be had.

``dwarf`` when the user names a vmlinux or asks for one to be found; ``btf`` (the default) out of
the dump itself; ``vmcoreinfo`` where the dump has neither BTF nor kallsyms within reach.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import drgn
from drgn import FindObjectFlags, Object, Program, Symbol, SymbolBinding, SymbolKind, Type, TypeKind

from mftriage.dump import Dump
from mftriage.dump.memory import platform_of
from mftriage.dump.unpack import Progress, no_progress
from mftriage.errors import MftriageError, SymbolsError
from mftriage.symbols.btf import Btf
from mftriage.symbols.extract import DAMAGED, KernelSymbol, NotedSymbols, from_json, to_json
from mftriage.symbols.globals import GLOBALS
from mftriage.symbols.kallsyms import Kallsyms

__all__ = ["DAMAGED", "Kernel", "Place", "open_kernel"]

Tier = Literal["dwarf", "btf", "vmcoreinfo"]

_PHYSICAL_BITS = 56  # beyond MAX_PHYSMEM_BITS of either architecture (52)
_MAX_BTF = 64 << 20
_SOME_ADDRESS = 0xFFFFFFFFFFFFE000  # in the kernel's half of any address space


@dataclass(frozen=True)
class Place:
    """An address in terms of the kernel image: ``name+offset``, offset in bytes."""

    name: str
    offset: int


class Kernel:
    """A dump that can be asked by name: what every question in ``mftriage.kernel`` takes.

    ``program`` reads memory in every tier, and knows types in the dwarf and btf tiers.
    ``tables`` tells the spans of type and symbol tables, as (address, bytes); ``extract`` what
    an analysis used of them, for a lean capsule (``None`` where the dump's own were not used).
    """

    def __init__(self, dump: Dump, program: Program) -> None:
        self.dump = dump
        self.program = program
        self.tier: Tier = "vmcoreinfo"
        self.why_not_better: str | None = None
        self.tables: Callable[[], list[tuple[int, int]]] = list
        self.extract: Callable[[], dict[str, Any]] | None = None
        self._address: Callable[[str], int | None] = dump.vmcoreinfo.symbol
        self._nearest: Callable[[int], Place | None] = lambda _: None

    @property
    def typed(self) -> bool:
        """Whether types and symbols are known (tiers dwarf and btf)."""
        return self.tier != "vmcoreinfo"

    def address(self, name: str) -> int | None:
        """The address of a symbol of the kernel image, or ``None``."""
        try:
            return self._address(name)
        except DAMAGED:
            return None

    def nearest(self, address: int) -> Place | None:
        """The symbol of the kernel image that ``address`` lies in, or ``None``."""
        try:
            return self._nearest(address)
        except DAMAGED:
            return None


def open_kernel(
    dump: Dump, vmlinux: Path | str | None = None, progress: Progress = no_progress
) -> Kernel:
    """Give the dump's names and types a meaning.

    ``vmlinux`` is a file or folder, or "auto" to look in the standard places and ask
    debuginfod; ``progress`` is told of a download.  Raises ``SymbolsError`` when what the user named is not this kernel's.
    """
    program = _program(dump)
    kernel = Kernel(dump, program)
    if not dump.vmcoreinfo.values:
        if vmlinux is not None:
            raise SymbolsError(
                "no vmlinux can be matched: the dump has no VMCOREINFO, which has the build ID",
                "leave -s out; QEMU writes VMCOREINFO with -device vmcoreinfo",
            )
        kernel.why_not_better = "the dump has no VMCOREINFO"
        return kernel
    try:
        program.set_linux_kernel_custom(dump.vmcoreinfo.raw, False)
        # Whether page tables can be walked with it shows at the first look.
        with suppress(drgn.FaultError), dump.memory.unrecorded():
            program.read_u8(_SOME_ADDRESS)
    except Exception as error:  # drgn names incomplete VMCOREINFO in errors of several classes
        # A program that has none of it, so that a virtual address is a fault and nothing worse.
        kernel = Kernel(dump, _program(dump))
        kernel.why_not_better = f"the dump's VMCOREINFO is not complete ({error})"
        return kernel
    if vmlinux is not None:
        _use_dwarf(kernel, vmlinux, progress)
        return kernel
    try:
        _use_btf(kernel)
    except MftriageError:
        raise
    except Exception as error:  # of damaged tables drgn tells in errors of many classes
        kernel.why_not_better = str(error) or type(error).__name__
        from mftriage.symbols.dwarf import find_quietly

        if find_quietly(dump.vmcoreinfo):
            with suppress(SymbolsError):
                _use_dwarf(kernel, "auto", progress)
    return kernel


def _program(dump: Dump) -> Program:
    program = Program(platform_of(dump.arch))
    program.add_memory_segment(0, 1 << _PHYSICAL_BITS, dump.memory.segment, True)
    return program


def _use_dwarf(kernel: Kernel, vmlinux: Path | str, progress: Progress) -> None:
    from mftriage.symbols.dwarf import load

    program = kernel.program
    load(program, kernel.dump.vmcoreinfo, vmlinux, progress)

    kernel.tier = "dwarf"
    try:
        # Names as in the btf tier: the symbols of an ELF file have gaps between them, and not all.
        kallsyms = Kallsyms(program, kernel.dump.vmcoreinfo, _image_reader(kernel))
    except MftriageError:
        raise
    except Exception as error:  # of damaged tables drgn tells in errors of many classes
        kernel.why_not_better = f"names come from the vmlinux alone: {error}"
        kernel._address = lambda name: program.symbol(name).address
        kernel._nearest = lambda address: _place(program.symbol(address), address)
    else:
        kernel._address = kallsyms.lookup
        kernel._nearest = lambda address: _place(kallsyms.nearest(address), address)
        kernel.tables = lambda: _spans(
            kallsyms, kallsyms.lookup("__start_BTF"), kallsyms.lookup("__stop_BTF")
        )


def _place(symbol: Symbol | KernelSymbol | None, address: int) -> Place | None:
    return symbol and Place(symbol.name, address - symbol.address)


def _spans(kallsyms: Kallsyms, start: int | None, stop: int | None) -> list[tuple[int, int]]:
    btf = [(start, stop - start)] if start is not None and stop is not None else []
    return [*btf, *kallsyms.tables()]


def _use_btf(kernel: Kernel) -> None:
    program = kernel.program
    noted = from_json(kernel.dump.sidecar.names)
    if noted is not None:
        symbols, section = noted
    else:
        read = _image_reader(kernel)
        kallsyms = Kallsyms(program, kernel.dump.vmcoreinfo, read)
        symbols = NotedSymbols(kallsyms)
        start, stop = symbols.lookup("__start_BTF"), symbols.lookup("__stop_BTF")
        if start is None or stop is None or not 0 < stop - start <= _MAX_BTF:
            raise LookupError("the kernel was built without BTF (CONFIG_DEBUG_INFO_BTF)")
        section = read(start, stop - start)
        kernel.tables = lambda: _spans(kallsyms, start, stop)
    btf = Btf(program, section)
    kernel.extract = lambda: to_json(symbols, btf.extract())
    kernel._address = symbols.lookup
    kernel._nearest = lambda address: _place(symbols.nearest(address), address)
    kernel.tier = "btf"
    _register(kernel, btf, symbols)
    # Without its range drgn does not know the kernel's own code, and a stack ends after one frame.
    text, end = kernel.dump.vmcoreinfo.symbol("_stext"), kernel.address("_end")
    if text is not None and end is not None:
        module = program.main_module("kernel", create=True)
        with suppress(ValueError, OverflowError):  # no range
            module.address_range = (text, end)


def _image_reader(kernel: Kernel) -> Callable[[int, int], bytes]:
    """Reads the kernel image by physical address: a third of the time that page walks take."""
    memory, offset = kernel.dump.memory, kernel.dump.image_offset

    def read(address: int, size: int) -> bytes:
        if offset is not None:
            with suppress(drgn.FaultError):
                return memory.read(address - offset & (1 << 64) - 1, size)
        data: bytes = kernel.program.read(address, size)
        return data

    return read


def _register(kernel: Kernel, btf: Btf, symbols: NotedSymbols) -> None:
    types: dict[tuple[frozenset[TypeKind], str], Type | None] = {}
    objects: dict[str, Object | None] = {}

    def find_type(_: Program, kinds: frozenset[TypeKind], name: str, __: str | None) -> Type | None:
        key = kinds, name
        if key not in types:
            types[key] = btf.find(kinds, name)
        return types[key]

    def find_object(
        program: Program, name: str, flags: FindObjectFlags, _: str | None
    ) -> Object | None:
        if name not in objects:
            objects[name] = _object(program, name, flags, btf, kernel)
        return objects[name]

    def find_symbol(_: Program, name: str | None, address: int | None, one: bool) -> list[Symbol]:
        if name is not None:
            found = symbols.lookup(name)
            return [] if found is None else [_symbol(name, found)]
        if address is not None:
            nearest = symbols.nearest(address)
            return [] if nearest is None else [_symbol(nearest.name, nearest.address, address)]
        return []

    program = kernel.program
    program.register_type_finder("mftriage-btf", find_type, enable_index=0)
    program.register_object_finder("mftriage-btf", find_object, enable_index=0)
    program.register_symbol_finder("mftriage-kallsyms", find_symbol, enable_index=0)


def _symbol(name: str, start: int, address: int | None = None) -> Symbol:
    # kallsyms has no sizes; one that covers the address asked for is all that drgn needs.
    size = 1 if address is None else address - start + 1
    return Symbol(name, start, size, SymbolBinding.GLOBAL, SymbolKind.UNKNOWN)


def _object(
    program: Program, name: str, flags: FindObjectFlags, btf: Btf, kernel: Kernel
) -> Object | None:
    if flags & FindObjectFlags.VARIABLE:
        wanted = GLOBALS.get(name)
        kind = program.type(wanted) if wanted else btf.variable(name)
        if kind is not None and (address := kernel.address(name)) is not None:
            return Object(program, kind, address=address)
    if flags & FindObjectFlags.CONSTANT:
        if name == "vmemmap" and (address := kernel.dump.vmcoreinfo.symbol(name)) is not None:
            # A macro of arm64 (asm/memory.h) that drgn works out from DWARF's mem_section.
            return Object(program, program.pointer_type(program.type("struct page")), address)
        return btf.constant(name)
    return None

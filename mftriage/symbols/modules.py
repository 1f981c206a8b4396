"""Names and types of a loaded module, out of the dump.

A module's symbols are not in the image's tables but in its own (struct mod_kallsyms,
kernel/module/kallsyms.c); its types are "split" BTF, which goes on where the image's ends, and
which ``btf_modules`` keeps once the module is loaded (kernel/bpf/btf.c, btf_module_notify).
Reads are meant to be made within a search: they are as many as the module has names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from drgn import FaultError, Object, offsetof

from mftriage.symbols import Kernel
from mftriage.symbols.btf_index import index_of

_MAX_MODULES = 4096
_MAX_SYMBOLS = 1 << 16
_MAX_BTF = 16 << 20
_NAME_SIZE = 56  # MODULE_NAME_LEN
_LONGEST_NAME = 512  # KSYM_NAME_LEN
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
_STRUCT = 4
_FLAG = 1 << 31


class Module:
    """A loaded module, by its ``struct module``."""

    def __init__(self, kernel: Kernel, module: Object) -> None:
        self._kernel = kernel
        self._module = module

    def lookup(self, name: str) -> int | None:
        """The address of a symbol of the module, static ones too, or ``None``."""
        program = self._kernel.program
        table = self._module.kallsyms.read_()
        if not table:
            return None
        count = table.num_symtab.value_()
        if not 0 < count <= _MAX_SYMBOLS:
            return None
        raw = program.read(table.symtab.value_(), _SYMBOL.size * count)
        # The names lie one behind the other (add_kallsyms), so that two reads take them all.
        strings = table.strtab.value_()
        last = max(entry[0] for entry in _SYMBOL.iter_unpack(raw))
        text = program.read(strings, last) if last else b""
        text += program.read_c_string(strings + last, max_size=_LONGEST_NAME) + b"\0"
        wanted = name.encode() + b"\0"
        for offset, _, _, section, value, _ in _SYMBOL.iter_unpack(raw):
            if section and text.startswith(wanted, offset):
                return int(value)
        return None

    def struct_offsets(self, name: str) -> dict[str, int]:
        """Byte offset of each named member of a struct of the module's own types.

        Raises ``LookupError`` where the module has no BTF, or no such struct.
        """
        for btf in _module_btfs(self._kernel):
            if btf.module.value_() == self._module.address_:
                return _Split(self._kernel, btf.btf).offsets(name)
        raise LookupError("the module was built without BTF (CONFIG_DEBUG_INFO_BTF_MODULES)")


def find_module(kernel: Kernel, name: str) -> Module | None:
    """The loaded module of this name, or ``None``."""
    head = kernel.address("modules")
    if head is None:
        return None
    program = kernel.program
    kind = program.type("struct module")
    link, at = offsetof(kind, "list"), offsetof(kind, "name")
    wanted = name.encode() + b"\0"
    for node in _nodes(kernel, head):
        if program.read(node - link + at, _NAME_SIZE).startswith(wanted):
            return Module(kernel, Object(program, kind, address=node - link))
    return None


def _nodes(kernel: Kernel, head: int) -> Iterator[int]:
    """The nodes of a list_head, which may be broken or closed anywhere."""
    seen = {0, head}
    node = kernel.program.read_u64(head)
    while node not in seen and len(seen) < _MAX_MODULES:
        seen.add(node)
        yield node
        try:
            node = kernel.program.read_u64(node)
        except FaultError:
            return


def _module_btfs(kernel: Kernel) -> Iterator[Object]:
    head = kernel.address("btf_modules")
    if head is None:
        return
    kind = kernel.program.type("struct btf_module")
    link = offsetof(kind, "list")
    for node in _nodes(kernel, head):
        yield Object(kernel.program, kind, address=node - link)


class _Split:
    """Split BTF: its strings are numbered on from the end of the base's."""

    def __init__(self, kernel: Kernel, btf: Object) -> None:
        self._kernel = kernel
        size = btf.data_size.value_()
        if not 24 <= size <= _MAX_BTF:
            raise LookupError("the module's BTF is not in the dump")
        data = kernel.program.read(btf.data.value_(), size)
        header, type_at, type_size, string_at, string_size = struct.unpack_from("<IIIII", data, 4)
        types = data[header + type_at : header + type_at + (type_size & ~3)]
        self._words = memoryview(types[: len(types) & ~3]).cast("I")
        self._strings = data[header + string_at : header + string_at + string_size]
        self._first = btf.start_str_off.value_()
        self._base = btf.base_btf.strings.value_() if btf.base_btf else 0
        self._index = index_of(self._words)

    def _string(self, offset: int) -> str:
        if offset >= self._first:
            start = offset - self._first
            raw = self._strings[start : start + _LONGEST_NAME].split(b"\0", 1)[0]
        else:
            raw = self._kernel.program.read_c_string(self._base + offset, max_size=_LONGEST_NAME)
        return str(raw, "ascii", "replace")

    def offsets(self, name: str) -> dict[str, int]:
        words = self._words
        for start in self._index.starts:
            info = words[start + 1]
            if info >> 24 & 0x7F != _STRUCT or self._string(words[start]) != name:
                continue
            found = {}
            for entry in range(start + 3, start + 3 + 3 * (info & 0xFFFFFF), 3):
                bits = words[entry + 2] & (0xFFFFFF if info & _FLAG else 0xFFFFFFFF)
                found[self._string(words[entry])] = bits // 8
            return found
        raise LookupError(f"the module's BTF has no struct {name}")

"""BTF, the kernel's own type information, read out of the dump into drgn types.

Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h.  Only what is asked for becomes
a drgn type (some 200 of 120,000); all that is read in one go is where each type begins.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable

import drgn
from drgn import Object, Program, Type, TypeEnumerator, TypeKind, TypeMember, TypeParameter

from mftriage.symbols.btf_index import EACH, FIXED, index_of

_MAGIC = 0xEB9F
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT = range(9, 17)
_DECL_TAG, _TYPE_TAG, _ENUM64 = range(17, 20)

_NAMED = {
    TypeKind.STRUCT: (_STRUCT,),
    TypeKind.UNION: (_UNION,),
    TypeKind.ENUM: (_ENUM, _ENUM64),
    TypeKind.TYPEDEF: (_TYPEDEF,),
    TypeKind.INT: (_INT,),
    TypeKind.BOOL: (_INT,),
    TypeKind.FLOAT: (_FLOAT,),
}


class Btf:
    """The types of one kernel.

    hdr_len is honoured, because 7.1 may put a layout section behind the header.
    """

    def __init__(self, program: Program, data: bytes) -> None:
        """``data``: the whole .BTF section.  Raises ``LookupError`` if it is not BTF."""
        if len(data) < 24:
            raise LookupError("the BTF section is too short")
        magic, version, _, header, type_at, type_len, str_at, str_len = struct.unpack_from(
            "<HBBIIIII", data
        )
        if (
            magic != _MAGIC
            or version != 1
            or header + max(type_at + type_len, str_at + str_len) > len(data)
        ):
            raise LookupError("the BTF section has no BTF header")
        self._program = program
        self._data = data
        self._types_at = header + type_at
        self._types_end = self._types_at + (type_len & ~3)
        self._words = memoryview(data)[self._types_at : self._types_end].cast("I")
        self._strings = header + str_at
        self._strings_end = self._strings + str_len
        self._starts, names = index_of(self._words)
        self._names = names.tobytes()
        self._made: dict[int, Type] = {}
        self._building: set[int] = set()
        self._variables: set[int] = set()

    # finding

    def _string(self, offset: int) -> str:
        start = self._strings + offset
        end = self._data.find(b"\0", start, self._strings_end)
        return self._data[start:end].decode("ascii", "backslashreplace") if end >= 0 else ""

    def _ids(self, name: str) -> list[int]:
        """The ids of all types of this name."""
        at = self._data.find(b"\0" + name.encode() + b"\0", self._strings, self._strings_end)
        if at < 0:
            return []
        wanted = (at + 1 - self._strings).to_bytes(4, sys.byteorder)
        ids: list[int] = []
        at = self._names.find(wanted)
        while at >= 0:
            if at % 4 == 0:
                ids.append(at // 4 + 1)
            at = self._names.find(wanted, at + 1)
        return ids

    def _kind(self, type_id: int) -> int:
        return self._words[self._starts[type_id - 1] + 1] >> 24 & 0x7F

    def find(self, kinds: frozenset[TypeKind], name: str) -> Type | None:
        """The type of this name and one of these kinds, or ``None``."""
        wanted = {k for kind in kinds for k in _NAMED.get(kind, ())}
        for type_id in self._ids(name):
            if self._kind(type_id) in wanted:
                return self.type(type_id)
        return None

    def variable(self, name: str) -> Type | None:
        """The type of a per-CPU variable: the only variables that kernels before 7.0 list in BTF."""
        for type_id in self._ids(name):
            if self._kind(type_id) == _VAR:
                self._variables.add(type_id)
                return self.type(self._words[self._starts[type_id - 1] + 2])
        return None

    def constant(self, name: str) -> Object | None:
        """The enumerator of this name, whichever enum it is in, or ``None``."""
        at = self._data.find(b"\0" + name.encode() + b"\0", self._strings, self._strings_end)
        if at < 0:
            return None
        wanted = struct.pack("<I", at + 1 - self._strings)
        at = self._data.find(wanted, self._types_at, self._types_end)
        while at >= 0:
            word, odd = divmod(at - self._types_at, 4)
            type_id = bisect_right(self._starts, word)
            if not odd and type_id and self._kind(type_id) in (_ENUM, _ENUM64):
                for enumerator in self.type(type_id).enumerators or ():
                    if enumerator.name == name:
                        return Object(self._program, self.type(type_id), enumerator.value)
            at = self._data.find(wanted, at + 1, self._types_end)
        return None

    # cutting out

    def extract(self) -> bytes:
        """A BTF section with only the types that were asked for; references to others are to void."""
        ids = sorted({*self._made, *self._variables} - {0})
        number = {type_id: index for index, type_id in enumerate(ids, 1)}
        words, strings = array("I"), bytearray(b"\0")
        placed = {0: 0}

        def name(offset: int) -> int:
            if offset not in placed:
                placed[offset] = len(strings)
                strings.extend(self._string(offset).encode() + b"\0")
            return placed[offset]

        def reference(type_id: int) -> int:
            return number.get(type_id, 0)

        for type_id in ids:
            at = self._starts[type_id - 1]
            info, third = self._words[at + 1], self._words[at + 2]
            kind, count = info >> 24 & 0x7F, info & 0xFFFFFF
            fixed, each = FIXED.get(kind, 0), EACH.get(kind, 0)
            rest = self._words[at + 3 : at + 3 + fixed + each * count].tolist()
            if kind == _ARRAY:
                rest[0], rest[1] = reference(rest[0]), 0
            for entry in range(0, len(rest) if each else 0, each or 1):
                rest[entry] = name(rest[entry])
                if kind in (_STRUCT, _UNION, _FUNC_PROTO):
                    rest[entry + 1] = reference(rest[entry + 1])
            refers = kind not in (_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _ENUM64, _FLOAT, _FWD)
            words.extend([name(self._words[at]), info, reference(third) if refers else third])
            words.extend(rest)
        size = 4 * len(words)
        header = struct.pack("<HBBIIIII", _MAGIC, 1, 0, 24, 0, size, size, len(strings))
        return header + words.tobytes() + bytes(strings)

    # building

    def type(self, type_id: int) -> Type:
        """The drgn type of a BTF type id; members are built when they are looked at."""
        made = self._made.get(type_id)
        if made is None:
            if type_id in self._building:
                raise LookupError(f"BTF type {type_id} is made of itself")
            self._building.add(type_id)
            try:
                made = self._made[type_id] = self._build(type_id)
            finally:
                self._building.remove(type_id)
        return made

    def _build(self, type_id: int) -> Type:
        program, words = self._program, self._words
        if type_id == 0:
            return program.void_type()
        if not 0 < type_id <= len(self._starts):
            raise LookupError(f"BTF has no type {type_id}")
        at = self._starts[type_id - 1]
        info, size_or_type = words[at + 1], words[at + 2]
        kind, count, flag = info >> 24 & 0x7F, info & 0xFFFFFF, bool(info >> 31)
        name = self._string(words[at])
        if kind == _INT:
            return self._int(name, size_or_type, words[at + 3])
        if kind == _PTR:
            return program.pointer_type(self.type(size_or_type))
        if kind == _ARRAY:
            element, length = self.type(words[at + 3]), words[at + 5]
            return program.array_type(element, length)
        if kind in (_STRUCT, _UNION):
            make = program.struct_type if kind == _STRUCT else program.union_type
            return make(name or None, size_or_type, self._members(at + 3, count, flag))
        if kind in (_ENUM, _ENUM64):
            return self._enum(name, at + 3, count, size_or_type, flag, kind == _ENUM64)
        if kind == _FWD:
            return program.union_type(name) if flag else program.struct_type(name)
        if kind == _TYPEDEF:
            return program.typedef_type(name, self.type(size_or_type))
        if kind in (_VOLATILE, _CONST, _RESTRICT):
            qualifier = {
                _VOLATILE: drgn.Qualifiers.VOLATILE,
                _CONST: drgn.Qualifiers.CONST,
                _RESTRICT: drgn.Qualifiers.RESTRICT,
            }[kind]
            inner = self.type(size_or_type)
            return inner.qualified(inner.qualifiers | qualifier)
        if kind in (_TYPE_TAG, _FUNC):
            return self.type(size_or_type)
        if kind == _FLOAT:
            return program.float_type(name, size_or_type)
        if kind == _FUNC_PROTO:
            return self._function(at + 3, count, size_or_type)
        raise LookupError(f"BTF type {type_id} is of a kind ({kind}) that has no drgn type")

    def _int(self, name: str, size: int, encoding: int) -> Type:
        if encoding >> 24 & 4:
            return self._program.bool_type(name, size)
        return self._program.int_type(name, size, bool(encoding >> 24 & 1))

    def _members(self, at: int, count: int, bit_fields: bool) -> list[TypeMember]:
        members = []
        for entry in range(at, at + 3 * count, 3):
            name, type_id, offset = self._words[entry : entry + 3]
            width = offset >> 24 if bit_fields else 0
            members.append(
                TypeMember(
                    self._member_type(type_id, width),
                    self._string(name) or None,
                    offset & 0xFFFFFF if bit_fields else offset,
                )
            )
        return members

    def _member_type(self, type_id: int, width: int) -> Callable[[], Object]:
        def make() -> Object:
            return Object(self._program, self.type(type_id), bit_field_size=width or None)

        return make

    def _enum(self, name: str, at: int, count: int, size: int, signed: bool, wide: bool) -> Type:
        enumerators = []
        for index in range(count):
            entry = at + index * (3 if wide else 2)
            value = self._words[entry + 1] | (self._words[entry + 2] << 32 if wide else 0)
            bits = 64 if wide else 32
            if signed and value >> bits - 1:
                value -= 1 << bits
            enumerators.append(TypeEnumerator(self._string(self._words[entry]), value))
        compatible = self._program.int_type(
            ("long" if size == 8 else "int")
            if signed
            else ("unsigned long" if size == 8 else "unsigned int"),
            size,
            signed,
        )
        return self._program.enum_type(name or None, compatible, enumerators)

    def _function(self, at: int, count: int, result: int) -> Type:
        parameters = []
        variadic = False
        for entry in range(at, at + 2 * count, 2):
            name, type_id = self._words[entry : entry + 2]
            if type_id == 0:
                variadic = True
                break
            parameters.append(
                TypeParameter(self._member_type(type_id, 0), self._string(name) or None)
            )
        return self._program.function_type(self.type(result), parameters, variadic)

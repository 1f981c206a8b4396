"""A register as a table of its fields, and the decoding of a value by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mftriage.model import DecodedRegister, RegisterField

RESERVED = "reserved"

Meaning = str | Mapping[int, str] | Callable[[int, int], str | None] | None
"""Words; words by the field's value; or a function of the field's value and the whole register."""


class Bits(NamedTuple):
    """A field: its highest and lowest bit, its name in the manual, and what its value means.

    A field without a name is reserved, or not for this table to tell.
    """

    high: int
    low: int
    name: str | None
    meaning: Meaning


class Table(NamedTuple):
    """The fields of a register, highest first, and where they are described."""

    register: str
    source: str
    rows: tuple[Bits, ...]


def flag(bit: int, name: str, on: str, off: str | None = None) -> Bits:
    """A field of one bit: what it means that it is set, and that it is not."""
    return Bits(bit, bit, name, lambda value, _: on if value else off)


def decode(table: Table, value: int) -> DecodedRegister:
    """What ``value`` says, field by field, without the fields whose zero says nothing."""
    fields = []
    for row in table.rows:
        width = row.high - row.low + 1
        part = value >> row.low & (1 << width) - 1
        meaning = _words(row, part, value)
        if not part and (row.name is None or meaning is None):
            continue
        fields.append(
            RegisterField(
                bits=str(row.high) if width == 1 else f"{row.high}:{row.low}",
                name=row.name,
                value=str(part) if width == 1 else f"{part:#x}",
                meaning=meaning,
            )
        )
    return DecodedRegister(
        register=table.register, value=f"{value:#x}", source=table.source, fields=tuple(fields)
    )


def _words(row: Bits, part: int, value: int) -> str | None:
    meaning = row.meaning
    if meaning is None or isinstance(meaning, str):
        return meaning
    if callable(meaning):
        return meaning(part, value)
    return meaning.get(part, "not a known value")

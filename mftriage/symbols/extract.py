"""The names and types that an analysis used: what a lean capsule has in place of the tables.

The tables are 10 MB; what one analysis asks of them is some 100 names and 200 types.  The types
are kept as BTF again, so that whoever reads it needs no second reader.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import drgn

T = TypeVar("T")

_MAX_BTF = 8 << 20

# What damaged tables, or an address that is none, can end in.
DAMAGED = (
    *(drgn.FaultError, drgn.BadDataError, drgn.MissingDebugInfoError, drgn.ObjectAbsentError),
    *(drgn.OutOfBoundsError, LookupError, ValueError, OverflowError),
)


class KernelSymbol(NamedTuple):
    """A symbol of the kernel image."""

    name: str
    address: int


class Symbols(Protocol):
    """Names of the kernel image, both ways round."""

    def lookup(self, name: str) -> int | None:
        """The address of ``name``, or ``None`` if there is no such symbol."""
        ...

    def nearest(self, address: int) -> KernelSymbol | None:
        """The last symbol at or below ``address``."""
        ...


class NotedSymbols:
    """Symbols out of ``source``, each asked for once, and noted.

    Without a source the notes are all there is.  What can't be read is a name that is not there.
    """

    def __init__(self, source: Symbols | None = None) -> None:
        self.source = source
        self.addresses: dict[str, int | None] = {}
        self.names: dict[int, KernelSymbol | None] = {}

    def lookup(self, name: str) -> int | None:
        """See ``Symbols``."""
        if name not in self.addresses:
            self.addresses[name] = self._ask(lambda source: source.lookup(name))
        return self.addresses[name]

    def nearest(self, address: int) -> KernelSymbol | None:
        """See ``Symbols``."""
        if address not in self.names:
            self.names[address] = self._ask(lambda source: source.nearest(address))
        return self.names[address]

    def _ask(self, question: Callable[[Symbols], T | None]) -> T | None:
        try:
            return None if self.source is None else question(self.source)
        except DAMAGED:
            return None


def to_json(symbols: NotedSymbols, btf: bytes) -> dict[str, Any]:
    """Notes and types as JSON has them; addresses as numbers (Python's JSON keeps all bits)."""
    return {
        "symbols": symbols.addresses,
        "nearest": [[address, *(symbol or ())] for address, symbol in symbols.names.items()],
        "btf": base64.b64encode(zlib.compress(btf, 9)).decode(),
    }


def from_json(content: object) -> tuple[NotedSymbols, bytes] | None:
    """The notes and the BTF section, or ``None`` where ``content`` is not what ``to_json`` writes."""
    if not isinstance(content, dict):
        return None
    try:
        symbols = NotedSymbols()
        for name, address in content["symbols"].items():
            symbols.addresses[name] = None if address is None else _address(address)
        for address, *found in content["nearest"]:
            symbols.names[_address(address)] = (
                KernelSymbol(str(found[0]), _address(found[1])) if found else None
            )
        packed = base64.b64decode(content["btf"], validate=True)
        inflater = zlib.decompressobj()
        return symbols, inflater.decompress(packed, _MAX_BTF)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None
    except (binascii.Error, zlib.error):
        return None


def _address(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError("not an address")
    return value

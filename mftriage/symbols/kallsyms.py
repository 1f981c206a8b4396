"""kallsyms, read out of the dump: one name is a binary search, not a walk of 200,000.

The tables are those that scripts/kallsyms.c writes and kernel/kallsyms.c reads.  VMCOREINFO has
exported where they lie since Linux 6.0 (f09bddbd8661); two of them it does not name, and these
are derived from the order that scripts/kallsyms.c writes them in, then verified:

* kallsyms_markers (4 bytes for every 256 names) ends where kallsyms_token_table begins;
* kallsyms_seqs_of_names (3 bytes a name, big-endian; 60443a88f3a8 in 6.2) follows
  kallsyms_offsets and kallsyms_relative_base, or before 404bad70fcf7 (6.5) the markers.

Where the derivation does not hold, drgn walks the whole table.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import drgn

from mftriage.dump.vmcoreinfo import VmcoreInfo
from mftriage.symbols.extract import KernelSymbol

Read = Callable[[int, int], bytes]

_BLOCK = 4096
_SEQ = 3
_MAX_SYMBOLS = 1 << 22
_MAX_NAME = 1024  # bytes; KSYM_NAME_LEN is 512


class Kallsyms:
    """Symbols of the kernel image by name and by address."""

    def __init__(
        self, program: drgn.Program, vmcoreinfo: VmcoreInfo, read: Read | None = None
    ) -> None:
        """Raises ``LookupError`` where VMCOREINFO or the dump lacks the tables.

        ``read`` gets bytes of the kernel image; without it, the program does.
        """
        self._program = program
        self._image = read or program.read
        self._blocks: dict[int, bytes] = {}
        self._packed: dict[int, bytes] = {}
        self._found: dict[str, int | None] = {}
        self._walked: dict[str, int] | None = None

        def table(name: str) -> int:
            address = vmcoreinfo.symbol(name)
            if address is None:
                raise LookupError(f"VMCOREINFO has no SYMBOL({name}) (exported since Linux 6.0)")
            return address

        self._names = table("kallsyms_names")
        self._tokens = table("kallsyms_token_table")
        self._token_index = table("kallsyms_token_index")
        self._offsets = table("kallsyms_offsets")
        relative_base = vmcoreinfo.symbol("kallsyms_relative_base")
        self._stext = table("_stext")
        # Names to verify by: _stext's own may be on the page that was hit.
        self._known = {
            name: address
            for name in ("_stext", "init_uts_ns", "swapper_pg_dir")
            if (address := vmcoreinfo.symbol(name)) is not None
        }
        try:
            # Without a base the offsets are relative to their own place (since 7.0).
            self._base = None if relative_base is None else self._u64(relative_base)
            self._token_strings = self._load_tokens()
            self._count = self._number(table("kallsyms_num_syms"))
        except drgn.FaultError as error:
            raise LookupError(f"the kallsyms tables are not in the dump ({error})") from error
        self._absolute_percpu = False
        self._markers = 0
        self._seqs = 0
        if not self._derive():
            self._walk()

    # reading

    def _read(self, address: int, size: int) -> bytes:
        start = address & -_BLOCK
        block = self._blocks.get(start)
        if block is None:
            block = self._blocks[start] = self._image(start, _BLOCK)
        data = block[address - start : address - start + size]
        if len(data) < size:
            data += self._read(start + _BLOCK, size - len(data))
        return data

    def _u32(self, address: int) -> int:
        return int.from_bytes(self._read(address, 4), "little")

    def _u64(self, address: int) -> int:
        return int.from_bytes(self._read(address, 8), "little")

    def _load_tokens(self) -> list[bytes]:
        index = struct.unpack("<256H", self._read(self._token_index, 512))
        table = self._read(self._tokens, index[-1] + 64)
        return [table[at : table.find(b"\0", at)] for at in index]

    def _number(self, address: int) -> int:
        """kallsyms_num_syms; counted by the markers where its page is the one that was hit."""
        try:
            count = self._u32(address)
        except drgn.FaultError:
            count = self._counted()
        if not 0 < count < _MAX_SYMBOLS:
            raise LookupError("kallsyms_num_syms is not sane")
        return count

    def _counted(self) -> int:
        """The number of names: 256 for each marker but the last, whose block is walked to its end."""
        for start in (self._tokens & -4, (self._tokens & -4) - 4):
            at = start - 4
            last = self._u32(at)
            following = last + 1
            while 0 < (offset := self._u32(at)) < following:
                following = offset
                at -= 4
            if self._u32(at) != 0 or at == start - 4:
                continue
            blocks = (start - at) // 4
            name, names = self._names + last, 0
            while name < at and (length := self._read(name, 1)[0]) and names < 256:
                if length & 0x80:
                    length = (length & 0x7F | self._read(name + 1, 1)[0] << 7) + 1
                name += 1 + length
                names += 1
            return 256 * (blocks - 1) + names
        raise LookupError("kallsyms_num_syms is not in the dump, and the markers do not tell it")

    # deriving the unexported tables

    def _derive(self) -> bool:
        markers = (self._count + 255) // 256
        after_offsets = self._offsets + 4 * self._count
        if self._base is not None:
            after_offsets = (after_offsets + 7 & ~7) + 8
        for align in (4, 8):
            start = (self._tokens - 4 * markers) & -align
            candidates = [(start, after_offsets + side - 1 & -side) for side in (8, 4)]
            # 6.2 to 6.4: names, markers, seqs_of_names, token_table
            seqs = (self._tokens - _SEQ * self._count) & -align
            candidates.append(((seqs - 4 * markers) & -align, seqs))
            for self._markers, self._seqs in candidates:
                if self._holds(markers):
                    return True
        self._markers = self._seqs = 0
        return False

    def _holds(self, markers: int) -> bool:
        """Markers start at 0 and ascend, and a name has the address that VMCOREINFO gives it."""
        try:
            sample = [self._u32(self._markers + 4 * i) for i in range(min(markers, 8))]
            if sample[0] != 0 or sample != sorted(set(sample)):
                return False
            for absolute in (False, True) if self._base is not None else (False,):
                self._absolute_percpu = absolute
                self._found.clear()
                if self._agrees():
                    return True
        except (drgn.FaultError, IndexError, ValueError):
            pass
        self._packed.clear()
        return False

    def _agrees(self) -> bool:
        """Whether the first name that can be looked up has the address that VMCOREINFO gives it."""
        for name, address in self._known.items():
            try:
                return self.lookup(name) == address
            except drgn.FaultError:
                continue
        return False

    def _walk(self) -> None:
        from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

        try:
            index = load_vmlinux_kallsyms(self._program)
            self._walked = {s.name: s.address for s in index(self._program, None, None, False)}
        except Exception as error:  # of damaged tables drgn tells in errors of many classes
            raise LookupError(f"the kallsyms tables can't be read ({error})") from error
        if self._walked.get("_stext") != self._stext:
            raise LookupError("the kallsyms tables contradict VMCOREINFO")
        self._by_address = sorted((a, n) for n, a in self._walked.items())

    # names and addresses

    def _block(self, block: int) -> bytes:
        """The packed names of a block of 256."""
        packed = self._packed.get(block)
        if packed is None:
            marker = self._markers + 4 * block
            start = self._names + self._u32(marker)
            last = 256 * (block + 1) >= self._count
            end = self._markers if last else self._names + self._u32(marker + 4)
            if not 0 < end - start <= 256 * _MAX_NAME:
                raise ValueError("kallsyms_markers are damaged")
            packed = self._packed[block] = self._read(start, end - start)
        return packed

    def _name(self, index: int) -> bytes:
        """The name of a symbol by its index: the type character in front is left out."""
        packed = self._block(index >> 8)
        at = 0
        for _ in range(index & 255):
            length = packed[at]
            if length & 0x80:  # a long symbol: ULEB128 of two bytes (73bbb94466fd, 6.1)
                length = (length & 0x7F | packed[at + 1] << 7) + 1
            at += 1 + length
        length = packed[at]
        if length & 0x80:
            at += 1
            length = length & 0x7F | packed[at] << 7
        tokens = self._token_strings
        return b"".join([tokens[t] for t in packed[at + 1 : at + 1 + length]])[1:]

    def _address(self, index: int) -> int:
        at = self._offsets + 4 * index
        raw = self._u32(at)
        signed = raw - (1 << 32) if raw & 1 << 31 else raw
        if self._base is None:
            return at + signed & (1 << 64) - 1
        if not self._absolute_percpu:
            return self._base + raw & (1 << 64) - 1
        # KALLSYMS_ABSOLUTE_PERCPU: kernel/kallsyms.c, kallsyms_sym_address (x86 before 6.15)
        return signed if signed >= 0 else self._base - 1 - signed & (1 << 64) - 1

    def lookup(self, name: str) -> int | None:
        """The address of ``name``, or ``None`` if the kernel image has no such symbol.

        Raises ``FaultError`` where the tables are not in the dump.
        """
        if self._walked is not None:
            return self._walked.get(name)
        if name not in self._found:
            self._found[name] = self._search(name.encode())
        return self._found[name]

    def _search(self, wanted: bytes) -> int | None:
        low, high = 0, self._count
        while low < high:
            middle, index, name = self._probe(low, high)
            if name == wanted:
                return self._address(index)
            if name < wanted:
                low = middle + 1
            else:
                high = middle
        return None

    def _probe(self, low: int, high: int) -> tuple[int, int, bytes]:
        """A name near the middle of [low, high): its rank, index and text.

        A name on a page that is not in the dump is passed over for its neighbour.
        """
        middle = (low + high) // 2
        for rank in (*range(middle, min(high, middle + 8)), *range(max(low, middle - 8), middle)):
            try:
                index = int.from_bytes(self._read(self._seqs + _SEQ * rank, _SEQ), "big")
                if index >= self._count:
                    raise ValueError("kallsyms_seqs_of_names is damaged")
                return rank, index, self._name(index)
            except drgn.FaultError as error:
                fault = error
        raise fault

    def nearest(self, address: int) -> KernelSymbol | None:
        """The last symbol at or below ``address``; ``None`` below the first one."""
        if self._walked is not None:
            from bisect import bisect_right

            at = bisect_right(self._by_address, (address, "\U0010ffff")) - 1
            return (
                KernelSymbol(self._by_address[at][1], self._by_address[at][0]) if at >= 0 else None
            )
        low, high = 0, self._count  # the table is sorted by address
        while low < high:
            middle = (low + high) // 2
            if self._address(middle) <= address:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return None
        at = low - 1
        found = self._address(at)
        while (
            at > 0 and self._address(at - 1) == found
        ):  # aliases: the first is the kernel's choice
            at -= 1
        return KernelSymbol(self._name(at).decode("ascii", "backslashreplace"), found)

    def tables(self) -> list[tuple[int, int]]:
        """Where the tables lie, as (address, bytes), for a capsule that answers new questions."""
        names_end = self._tokens if self._walked is not None else self._markers
        spans = [
            (self._names, names_end - self._names),
            (self._tokens, self._token_index + 512 - self._tokens),
            (self._offsets, 4 * self._count),
        ]
        if self._markers:
            spans.append((self._markers, 4 * ((self._count + 255) // 256)))
        if self._seqs:
            spans.append((self._seqs, _SEQ * self._count))
        return spans

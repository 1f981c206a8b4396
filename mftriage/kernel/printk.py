"""The printk ring, read by VMCOREINFO alone.

kernel/printk/printk_ringbuffer.h (since Linux 5.10, 896fbe20b4e2): a ring of descriptors, a ring
of infos beside it, and a ring of text.  drgn 0.3.0's own reader mangles a record that wraps the
text ring's end.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from drgn import FaultError

from mftriage.dump.vmcoreinfo import VmcoreInfo
from mftriage.log import LogRecord, lines_of

_STATE_SHIFT = 62
_ID_MASK = (1 << _STATE_SHIFT) - 1
_ADDRESS = (1 << 64) - 1
_COMMITTED, _FINALIZED = 1, 2
_MAX_COUNT_BITS, _MAX_SIZE_BITS = 20, 30


class Reader(Protocol):
    """What reads kernel memory: a drgn ``Program``, or what stands in for one."""

    def read(self, address: int, size: int, /) -> bytes:
        """Bytes at a virtual address."""
        ...

    def read_u32(self, address: int, /) -> int:
        """A 4-byte integer."""
        ...

    def read_u64(self, address: int, /) -> int:
        """An 8-byte integer."""
        ...


class _Layout(NamedTuple):
    """Sizes and offsets in bytes, as VMCOREINFO has them."""

    desc_ring: int
    text_ring: int
    count_bits: int
    descs: int
    infos: int
    head_id: int
    tail_id: int
    desc_size: int
    state: int
    text_blk: int
    begin: int
    next: int
    info_size: int
    ts_nsec: int
    text_len: int
    size_bits: int
    data: int


_KEYS = (
    "printk_ringbuffer.desc_ring",
    "printk_ringbuffer.text_data_ring",
    "prb_desc_ring.count_bits",
    "prb_desc_ring.descs",
    "prb_desc_ring.infos",
    "prb_desc_ring.head_id",
    "prb_desc_ring.tail_id",
    "SIZE prb_desc",
    "prb_desc.state_var",
    "prb_desc.text_blk_lpos",
    "prb_data_blk_lpos.begin",
    "prb_data_blk_lpos.next",
    "SIZE printk_info",
    "printk_info.ts_nsec",
    "printk_info.text_len",
    "prb_data_ring.size_bits",
    "prb_data_ring.data",
)


def read_log(program: Reader, vmcoreinfo: VmcoreInfo) -> list[LogRecord]:
    """Every record of the ring that the kernel itself wrote, oldest first.

    Raises ``LookupError`` where VMCOREINFO lacks the layout, ``FaultError`` where the ring's own
    header is not in the dump.  Records whose text is missing are left out.
    """
    ring_pointer = vmcoreinfo.symbol("prb")
    values = [
        vmcoreinfo.size(key[5:]) if key.startswith("SIZE ") else vmcoreinfo.offset(key)
        for key in _KEYS
    ]
    if ring_pointer is None or None in values:
        raise LookupError("VMCOREINFO has no layout of the printk ring (exported since Linux 5.10)")
    at = _Layout(*[value for value in values if value is not None])

    ring = program.read_u64(ring_pointer)
    descs_at, text_at = ring + at.desc_ring & _ADDRESS, ring + at.text_ring & _ADDRESS
    count_bits = program.read_u32(descs_at + at.count_bits & _ADDRESS)
    size_bits = program.read_u32(text_at + at.size_bits & _ADDRESS)
    if not 0 < count_bits <= _MAX_COUNT_BITS or not 0 < size_bits <= _MAX_SIZE_BITS:
        raise LookupError("the printk ring's header is not sane")
    descs, infos = (
        program.read_u64(descs_at + at.descs & _ADDRESS),
        program.read_u64(descs_at + at.infos & _ADDRESS),
    )
    tail = program.read_u64(descs_at + at.tail_id & _ADDRESS) & _ID_MASK
    head = program.read_u64(descs_at + at.head_id & _ADDRESS) & _ID_MASK
    text = _Text(program, program.read_u64(text_at + at.data & _ADDRESS), 1 << size_bits)

    records: list[LogRecord] = []
    count = 1 << count_bits
    used = (head - tail & _ID_MASK) + 1
    for first, length in _spans(tail, min(used, count), count):
        index = first & count - 1
        desc_block = _read(program, descs + index * at.desc_size & _ADDRESS, length * at.desc_size)
        info_block = _read(program, infos + index * at.info_size & _ADDRESS, length * at.info_size)
        for i in range(length):
            desc, info = i * at.desc_size, i * at.info_size
            state = _u64(desc_block, desc + at.state)
            if state >> _STATE_SHIFT not in (_COMMITTED, _FINALIZED):
                continue
            if state & _ID_MASK != first + i & _ID_MASK:
                continue
            blk = desc + at.text_blk
            begin, end = _u64(desc_block, blk + at.begin), _u64(desc_block, blk + at.next)
            text_len = int.from_bytes(
                info_block[info + at.text_len : info + at.text_len + 2], "little"
            )
            message = text.read(begin, end, text_len)
            if message is None:
                continue
            # u16 text_len; u8 facility; u8 flags:5, level:3.  The kernel's own is facility 0, and
            # what user space writes to /dev/kmsg never is (kernel/printk/printk.c, devkmsg_write).
            if info_block[info + at.text_len + 2] != 0:
                continue
            time = _u64(info_block, info + at.ts_nsec) / 1e9
            level = info_block[info + at.text_len + 3] >> 5
            records += lines_of(message, time, level)
    return records


def _u64(block: bytes, at: int) -> int:
    return int.from_bytes(block[at : at + 8], "little")


def _spans(first: int, used: int, count: int) -> list[tuple[int, int]]:
    """The ids from ``first`` on, cut where the ring wraps: (first id, number)."""
    until_end = count - (first & count - 1)
    if used <= until_end:
        return [(first, used)]
    return [(first, until_end), (first + until_end, used - until_end)]


def _read(program: Reader, address: int, size: int) -> bytes:
    """A block; where pages of it are missing, zeros, which no valid descriptor has."""
    try:
        block: bytes = program.read(address, size)
        return block
    except FaultError:
        pieces = []
        while size > 0:
            length = min(size, 4096 - address % 4096)
            try:
                pieces.append(program.read(address, length))
            except FaultError:
                pieces.append(bytes(length))
            address = address + length & _ADDRESS
            size -= length
        return b"".join(pieces)


class _Text:
    """The ring of text, read in whole pages as they are needed."""

    def __init__(self, program: Reader, address: int, size: int) -> None:
        self._program = program
        self._address = address
        self._size = size
        self._pages: dict[int, bytes | None] = {}

    def _page(self, index: int) -> bytes | None:
        if index not in self._pages:
            length = min(4096, self._size - index * 4096)
            try:
                self._pages[index] = self._program.read(
                    self._address + index * 4096 & _ADDRESS, length
                )
            except FaultError:
                self._pages[index] = None
        return self._pages[index]

    def read(self, begin: int, end: int, length: int) -> str | None:
        """The text of a data block (prb: get_data); ``None`` where it has none or it is missing."""
        if begin & 1 and end & 1:  # BLK_DATALESS
            return None
        # A block that would cross the end lies at the start, whole.  One that ends exactly at the
        # end does not (next then has index 0), hence the -1.
        wraps = begin // self._size != (end - 1) // self._size
        start = 0 if wraps else begin % self._size
        stop = (end - 1) % self._size + 1
        room = stop - start - 8  # an unsigned long, the descriptor's id, stands in front
        if room < 0:
            return None
        start += 8
        wanted = min(length, room)
        pieces = []
        while wanted > 0:
            page = self._page(start // 4096)
            if page is None:
                return None
            piece = page[start % 4096 : start % 4096 + wanted]
            if not piece:
                return None
            pieces.append(piece)
            start += len(piece)
            wanted -= len(piece)
        return b"".join(pieces).decode("utf-8", "backslashreplace")

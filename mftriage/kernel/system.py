"""Which machine it was: host, release, taint, clocks and the switches of memory-failure handling."""

from __future__ import annotations

from typing import NamedTuple

from drgn import FaultError, Object, sizeof

from mftriage.symbols import Kernel
from mftriage.text import c_string

_UTS_FIELD = 65  # __NEW_UTS_LEN + 1, include/uapi/linux/utsname.h

# kernel/panic.c, taint_flags: bit number to letter
_TAINT = "PFSRMBUDAWCIOELKXTNJ"
_SANE_CLOCK = (1262304000, 4102444800)  # 2010 to 2100, seconds since the epoch


class Clock(NamedTuple):
    """The kernel's clocks when it stopped: seconds since the epoch, and since boot."""

    wall: float
    uptime: float


def uts_name(kernel: Kernel) -> tuple[str | None, str | None]:
    """Host name and release, from init_uts_ns (struct new_utsname: sysname, nodename, release, ...)."""
    info = kernel.dump.vmcoreinfo
    address, offset = info.symbol("init_uts_ns"), info.offset("uts_namespace.name")
    if address is None or offset is None:
        return None, info.release
    try:
        raw = kernel.program.read(address + offset, 3 * _UTS_FIELD)
    except FaultError:
        return None, info.release
    host, release = c_string(raw[_UTS_FIELD : 2 * _UTS_FIELD]), c_string(raw[2 * _UTS_FIELD :])
    return host or None, release or info.release


def taint(kernel: Kernel) -> tuple[str, ...] | None:
    """The letters of the taints that are set."""
    address = kernel.address("tainted_mask")
    if address is None:
        return None
    try:
        mask = kernel.program.read_u64(address)
    except FaultError:
        return None
    return tuple(letter for bit, letter in enumerate(_TAINT) if mask >> bit & 1)


def integer(kernel: Kernel, name: str, size: int) -> int | None:
    """The value of a plain integer variable of ``size`` bytes, or ``None``."""
    address = kernel.address(name)
    if address is None:
        return None
    try:
        return int.from_bytes(kernel.program.read(address, size), "little")
    except FaultError:
        return None


def has_symbol(kernel: Kernel, name: str, beside: str) -> bool | None:
    """Whether the kernel has the variable ``name``.

    It has not where its symbols show ``beside``, of the same file and kind, and not ``name``.  ``None`` where the
    symbols can't be looked up, or leave variables out (CONFIG_KALLSYMS_ALL).
    """
    if kernel.address(name) is not None:
        return True
    return None if kernel.address(beside) is None else False


def clock(kernel: Kernel) -> Clock | None:
    """Wall time and uptime at the last tick, from the timekeeper (kernel/time/timekeeping.c)."""
    if not kernel.typed:
        return None
    # timekeeper_data[TIMEKEEPER_CORE], the first of an array, since 6.17 (auxiliary clocks); tk_core before
    address = kernel.address("timekeeper_data") or kernel.address("tk_core")
    if address is None:
        return None
    program = kernel.program
    try:
        try:
            # struct tk_data since 6.13 (2cab490b416c); an unnamed struct of the same shape before
            offset = program.type("struct tk_data").member("timekeeper").offset
        except LookupError:
            kind = program.type("struct timekeeper")
            alignment = 8
            seq = sizeof(program.type("seqcount_raw_spinlock_t"))
            offset = -(-seq // alignment) * alignment
            del kind
        keeper = Object(program, "struct timekeeper", address=address + offset)
        wall, uptime = keeper.xtime_sec.value_(), keeper.ktime_sec.value_()
        base = keeper.tkr_mono.base.value_() / 1e9
    except (FaultError, LookupError, AttributeError):
        return None
    if not _SANE_CLOCK[0] <= wall < _SANE_CLOCK[1] or not 0 <= uptime < 1e9:
        return None
    return Clock(float(wall), max(float(uptime), base))

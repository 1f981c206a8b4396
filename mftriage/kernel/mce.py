"""Machine-check records in the kernel's memory, which the log may lack.

After a panic by the sysctl the log holds no register at all: memory_failure() runs in
mce_gen_pool_process() before the notifier that prints.  The records lie in the pool that they
were queued in (arch/x86/kernel/cpu/mce/genpool.c): those of mce_event_llist, which wait to be printed,
and those that were, freed but not wiped; and the one being handled
when mce_panic() was called in the per-CPU hw_errs_seen (core.c; mces_seen before 6.14).
"""

from __future__ import annotations

from collections.abc import Iterator

import drgn
from drgn import FaultError, Object, sizeof

from mftriage.kernel.lists import pool_chunks
from mftriage.kernel.percpu import online_cpus, per_cpu
from mftriage.kernel.system import Clock
from mftriage.model import HardwareError
from mftriage.records.mce import VALID, from_registers
from mftriage.symbols import Kernel

_MAX_POOL = 1 << 21  # bytes
_SOFTWARE_BANKS = range(128, 256)  # K_*_BANK, asm/mce.h: thermal and such


def mce_records_in_memory(kernel: Kernel, clock: Clock | None) -> list[HardwareError]:
    """Every valid record in memory, oldest first.

    ``clock`` turns a record's wall time into seconds since boot.
    """
    if not kernel.typed or kernel.dump.arch != "x86_64":
        return []
    seen: dict[tuple[int, ...], tuple[int, HardwareError]] = {}
    for source in (_pool, _per_cpu):
        try:
            for mce in source(kernel):
                if record := _record(mce, clock):
                    key, order, error = record
                    seen.setdefault(key, (order, error))
        except (FaultError, LookupError, AttributeError):
            continue
    return [error for _, error in sorted(seen.values(), key=lambda item: item[0])]


def _pool(kernel: Kernel) -> Iterator[Object]:
    """Every slot of mce_evt_pool."""
    program = kernel.program
    pool = program["mce_evt_pool"]
    node = program.type("struct mce_evt_llist")
    # Since 6.14 (750fd23926f1) the node holds a struct mce_hw_err, before that a struct mce.
    member = "err" if node.has_member("err") else "mce"
    slot = 1 << max(pool.min_alloc_order.value_(), (sizeof(node) - 1).bit_length())
    for start, size in pool_chunks(pool, _MAX_POOL):
        for address in range(start, start + size - slot + 1, slot):
            yield _mce(Object(program, node, address=address).member_(member))


def _per_cpu(kernel: Kernel) -> Iterator[Object]:
    """What each CPU saw last in its machine-check handler."""
    program = kernel.program
    try:
        seen = program["hw_errs_seen"]
    except LookupError:
        seen = program["mces_seen"]
    for cpu in online_cpus(kernel):
        try:
            yield _mce(per_cpu(kernel, seen, cpu))
        except FaultError:
            continue


def _mce(record: Object) -> Object:
    return record.m if record.type_.has_member("m") else record


def _record(mce: Object, clock: Clock | None) -> tuple[tuple[int, ...], int, HardwareError] | None:
    """A struct mce, if it holds a record: (what it is the same by, its order, the record)."""
    try:
        mce = mce.read_()
    except drgn.FaultError:
        return None
    status, bank = mce.status.value_(), mce.bank.value_()
    if not status & VALID or bank in _SOFTWARE_BANKS:
        return None
    wall, tsc = mce.time.value_(), mce.tsc.value_()
    time = None
    if clock is not None and wall:
        since = wall - (clock.wall - clock.uptime)
        time = max(0.0, round(since, 3)) if -1 <= since <= clock.uptime + 1 else None
    inject = mce.inject_flags.value_() if mce.type_.has_member("inject_flags") else 0
    error = from_registers(
        medium="memory",
        status=status,
        bank=bank,
        addr=mce.addr.value_(),
        misc=mce.misc.value_(),
        mcgstatus=mce.mcgstatus.value_(),
        vendor=mce.cpuvendor.value_(),
        cpu=mce.extcpu.value_(),
        ip=mce.ip.value_(),
        synd=mce.synd.value_(),
        ipid=mce.ipid.value_(),
        ppin=mce.ppin.value_(),
        microcode=mce.microcode.value_(),
        cpuid=mce.cpuid.value_(),
        socket=mce.socketid.value_(),
        wall=wall,
        time=time,
        injected=True if inject else None,
    )
    key = (status, bank, mce.addr.value_(), mce.extcpu.value_(), wall, tsc)
    return key, tsc or wall, error

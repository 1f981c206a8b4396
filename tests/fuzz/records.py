"""Fuzz whatever reads what a dump or a log says of the hardware: ``make fuzz``.

atheris leads the mutations by coverage.  The first byte of an input chooses the reader: logs in any
dialect with all that is made of them, CPER blocks, SMBIOS tables, BTF, kallsyms.  Any
exception but those that the readers' callers expect, a record that breaks the rules of ``check``,
or a slow input ends the run, and the input is kept in ``out/fuzz``.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mftriage"]):
    from drgn import Architecture, Platform, Program

    from mftriage.kernel import cper, dmi
    from mftriage.log import TextLog, split_boots
    from mftriage.model import HardwareError
    from mftriage.records import log_records
    from mftriage.records.crash import crash_from_log, crash_line, crash_registers
    from mftriage.records.digest import Digest
    from mftriage.records.faults import (
        held_addresses,
        no_bad_cell,
        reported,
        table_ties,
        touched_by,
    )
    from mftriage.records.gaps import gaps
    from mftriage.records.injection import mark_injected
    from mftriage.records.memory_failure import marked_after, memory_failures, page_requests
    from mftriage.records.page_size import addressed, arch_of, page_size_of
    from mftriage.symbols.btf import Btf
    from mftriage.symbols.extract import DAMAGED

from tests.kernel import test_cper, test_dmi
from tests.records.test_formats import LINES, check
from tests.symbols import test_btf, test_kallsyms

OUT = Path("out", "fuzz")
PLATFORM = Platform(Architecture.X86_64)
TABLES = test_kallsyms.build(test_kallsyms.some(40))
MEMORY_FAILURES = [
    "[   10.1] Memory failure: 0x13b2: Sending SIGBUS to victim:105 due to hardware memory corruption",
    "[   10.2] Memory failure: 0x13b2: recovery action for dirty LRU page: Recovered",
    "[   11.2] Kernel panic - not syncing: Memory failure: 0x13b3: unrecoverable page",
    "[   12.0] Internal error: synchronous external abort: 0000000096000410 [#1] SMP",
    "[   12.1] x8 : ffff003fa72d5088 x7 : 0000000000000000 x6 : ffff800138cafd58",
    "[   12.2] BUG: unable to handle page fault for address: ffff888001741123",
    "Dec  5 01:02:03 host kernel: [   13.0] soft offline: 0x118ee0: page already poisoned",
    "2024-05-01T01:02:03.000004+02:00 host kernel: Memory failure: 0x2f: unhandlable page.",
    "[Wed Nov  8 13:03:59 2023] mce: Uncorrected hardware memory error in user-access at 3f0c2a0080",
    "4,1234,5678901,-;Memory failure: 0x2f: recovery action for huge page: Recovered",
    "<3>[   14.0][  T123] Memory failure: 0x2f: already hardware poisoned",
]
ALL = LINES + MEMORY_FAILURES
PIECES = (
    *("", "\n", "\r\n", "0x", "9" * 30, "f" * 20, "{7}", "[", "] ", "(", ")", ":", "\0", "–"),
    *("٣", " " * 50, "\x1b[31m", "[   1.000000] ", "> ", "host kernel: ", "Linux version 6.1 "),
)


def logs(data: bytes) -> None:
    """A text through everything that reads one."""
    text = data.decode("utf-8", "backslashreplace")
    for log in split_boots(TextLog().read(text.split("\n"))):
        found, failed = log_records(log)
        assert not failed, failed
        bare = memory_failures(log, None)
        arch = arch_of(log)
        size = page_size_of(log, arch, found, bare)
        errors = [addressed(e, size) for e in mark_injected(found, log, bare)]
        for record in errors:
            check(record)
        gaps(log, errors, memory_failures(log, size))
        page_requests(log)
        digest = Digest(log).finish()
        assert digest.left_out + len(digest.errors) == len(found)
        panic = crash_from_log(log)
        if panic is not None:
            registers = crash_registers(log)
            touched = touched_by(panic, registers, arch)
            held_addresses(panic, registers, touched)
            no_bad_cell(panic, reported(panic, touched), registers)
            marked_after(bare, log, crash_line(log))
            table_ties(registers, arch, [0x13B2], 4096)


def blocks(data: bytes) -> None:
    """A status block of the firmware's, as it lies in a pool."""
    cper.block_size(data[: cper.STATUS_SIZE])
    records: list[HardwareError] = cper.records(data, "pool")
    for record in records:
        check(record)


def smbios(data: bytes) -> None:
    """A table of SMBIOS."""
    for handle, device in dmi.devices_in(data):
        assert 0 <= handle < 1 << 16 and (device.size_bytes or 0) >= 0


def btf(data: bytes) -> None:
    """The kernel's type table: each type built, and some asked for."""
    with suppress(*DAMAGED):
        types = Btf(Program(PLATFORM), data)
        for name in ("node", "color", "atomic", "runqueues", "function", "int"):
            with suppress(*DAMAGED):
                types.find(test_btf.ALL_KINDS, name)
            with suppress(*DAMAGED):
                types.variable(name)
            with suppress(*DAMAGED):
                types.constant(name)
        with suppress(*DAMAGED):
            types.extract()


def kallsyms(data: bytes) -> None:
    """The kernel's symbol tables."""
    with suppress(*DAMAGED):
        symbols = TABLES.open(data)
        for name in list(TABLES.symbols)[:5]:
            with suppress(*DAMAGED):
                symbols.lookup(name)
        with suppress(*DAMAGED):
            symbols.nearest(test_kallsyms.IMAGE + 4096)


READERS: tuple[Callable[[bytes], None], ...] = (logs, blocks, smbios, btf, kallsyms)
SEEDS: dict[int, list[bytes]] = {
    0: ["\n".join(ALL[at : at + 12]).encode() for at in range(0, len(ALL), 8)],
    1: [
        test_cper.REAL,
        *(
            test_cper.block(test_cper.entry(kind, bytes(range(256)), fru=b"DIMM_A1"))
            for kind in cper.SECTIONS
        ),
    ],
    2: [test_dmi.REAL],
    3: [test_btf.sample().data()],
    4: [TABLES.data],
}


def one(data: bytes) -> None:
    """One input: which reader, and what it gets."""
    if not data:
        return
    start = time.process_time()
    READERS[data[0] % len(READERS)](data[1:])
    assert time.process_time() - start < 5 + len(data) / 20_000, "slow"


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """libFuzzer's own mutation; of a log, half of the time lines of the fixtures, torn and joined."""
    chance = random.Random(seed)
    if not data or data[0] % len(READERS) or chance.random() < 0.5:
        return bytes(atheris.Mutate(data, most))
    lines = data[1:].decode("utf-8", "backslashreplace").split("\n")
    for _ in range(chance.randrange(1, 6)):
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(ALL))
        if chance.random() < 0.3:
            del lines[chance.randrange(len(lines))]
    text = "\n".join(lines)
    for _ in range(chance.randrange(8)):
        at, cut = chance.randrange(len(text) + 1), chance.randrange(9)
        text = text[:at] + chance.choice(PIECES) + text[at + cut :]
    return (data[:1] + text.encode("utf-8", "replace"))[:most]


def main(seconds: float) -> None:
    """Run for so long, from the seeds and from what earlier runs found."""
    corpus, seeds = OUT / "corpus", OUT / "seeds"
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for reader, texts in SEEDS.items():
        for number, text in enumerate(texts):
            (seeds / f"{reader}-{number}").write_bytes(bytes([reader]) + text)
    options = (f"-max_total_time={seconds:.0f}", "-max_len=16384", "-timeout=30")
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={OUT}/", str(corpus), str(seeds)],
        one,
        custom_mutator=mutated,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0)

"""Fuzz every record decoder over mutated lines of the fixtures: ``make fuzz``.

With atheris (``pip install atheris``) coverage leads the mutations; without it chance does.
Any exception, any record that breaks the rules of ``check``, or a slow input ends the run.
"""

from __future__ import annotations

import random
import sys
import time

from mftriage.log import split_boots
from mftriage.records import log_records
from mftriage.records.crash import crash_addresses, crash_from_log
from mftriage.records.gaps import gaps
from mftriage.records.history import corrected_history
from mftriage.records.injection import mark_injected
from mftriage.records.memory_failure import memory_failures, page_requests
from mftriage.records.page_size import arch_of, page_size_of
from tests.craft import parse_text
from tests.records.test_formats import LINES, check

EXTRA = [
    "[   10.1] Memory failure: 0x13b2: Sending SIGBUS to victim:105 due to hardware memory corruption",
    "[   10.2] Memory failure: 0x13b2: recovery action for dirty LRU page: Recovered",
    "[   11.2] Kernel panic - not syncing: Memory failure: 0x13b3: unrecoverable page",
    "[   12.0] Internal error: synchronous external abort: 0000000096000410 [#1] SMP",
    "[   12.1] x8 : ffff003fa72d5088 x7 : 0000000000000000 x6 : ffff800138cafd58",
    "[   12.2] BUG: unable to handle page fault for address: ffff888001741123",
    "Dec  5 01:02:03 host kernel: [   13.0] soft offline: 0x118ee0: page already poisoned",
]


def one(text: str) -> None:
    """Put one log through everything that reads it."""
    start = time.perf_counter()
    for log in split_boots(parse_text(text.split("\n"))):
        found, failed = log_records(log)
        assert not failed, failed
        for record in found:
            check(record)
        failures = memory_failures(log, None)
        errors = mark_injected(found, log, failures)
        corrected_history(errors)
        gaps(log, errors, failures)
        page_requests(log)
        page_size_of(log, arch_of(log), errors, failures)
        panic = crash_from_log(log)
        if panic is not None:
            crash_addresses(log, panic)
    assert time.perf_counter() - start < 2 + len(text) / 50_000, "slow"


def mutated(chance: random.Random) -> str:
    """A log of up to thirty lines of the fixtures, torn, joined and changed."""
    lines = [chance.choice(LINES + EXTRA) for _ in range(chance.randrange(1, 30))]
    text = "\n".join(lines)
    for _ in range(chance.randrange(12)):
        at, cut = chance.randrange(len(text) + 1), chance.randrange(9)
        new = chance.choice(
            (
                "",
                "\n",
                "0x",
                "9" * 30,
                "f" * 20,
                "{7}",
                "[",
                "] ",
                "(",
                ")",
                ":",
                "\0",
                "–",
                "٣",
                " " * 50,
            )
        )
        text = text[:at] + new + text[at + cut :]
    return text * chance.choice((1, 1, 1, 1, 40))


def main(seconds: float) -> None:
    """Run for so long."""
    try:
        import atheris
    except ImportError:
        chance = random.Random(time.time())
        end, runs = time.time() + seconds, 0
        while time.time() < end:
            text = mutated(chance)
            try:
                one(text)
            except Exception:
                sys.stderr.write(f"{text!r}\n")
                raise
            runs += 1
        sys.stderr.write(f"{runs} logs in {seconds:.0f} s, none broke a decoder\n")
        return

    def target(data: bytes) -> None:
        one(data.decode("utf-8", "backslashreplace"))

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds:.0f}"], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0)

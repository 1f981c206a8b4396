"""The pipeline: source, dump, facts, verdict, Triage.  One direction; nothing flows back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mftriage import __version__
from mftriage.actions import actions
from mftriage.dimm import suspect
from mftriage.errors import UsageError
from mftriage.facts import Facts
from mftriage.files import is_url
from mftriage.logfile import LogFile, located_log, log_in, open_log
from mftriage.model import HardwareError, NotChecked, PageInfo, Panic, Tool, Triage, Verdict
from mftriage.records.history import corrected_history
from mftriage.registers import of_record, of_syndrome
from mftriage.signature import signature
from mftriage.timeline import timeline
from mftriage.verdict import decide

if TYPE_CHECKING:
    from mftriage.dump import Dump
    from mftriage.symbols import Kernel

T = TypeVar("T")
Progress = Callable[[str, int, int], None]

_MAX_EVENTS = 10_000
_MAX_DECODED = 40  # records with their registers bit by bit: some 5 kB of JSON each


@dataclass
class Analysis:
    """A triage with the dump that it came from, which a capsule is cut from; a log has none.

    ``facts`` are what the rules decided by.
    """

    triage: Triage
    opened: tuple[Dump, Kernel] | None = None
    facts: Facts | None = None

    @property
    def dump(self) -> Dump:
        """The dump.  Raises ``UsageError`` where there is none."""
        return self._opened()[0]

    @property
    def kernel(self) -> Kernel:
        """The dump's kernel.  Raises ``UsageError`` where there is none."""
        return self._opened()[1]

    def close(self) -> None:
        """Let go of the dump."""
        if self.opened is not None:
            self.opened[0].close()

    def _opened(self) -> tuple[Dump, Kernel]:
        if self.opened is None:
            raise UsageError(
                "a log has no memory that a capsule could be cut from", "name the vmcore"
            )
        return self.opened


class _Wanted(NamedTuple):
    """What an analysis is given besides the dump or the log."""

    vmlinux: Path | str | None
    scan_seconds: float
    rasdaemon_db: Path | None
    progress: Progress


def analyze(
    path: Path | str,
    *,
    vmlinux: Path | str | None = None,
    scan_seconds: float = 10.0,
    rasdaemon_db: Path | None = None,
    progress: Progress = lambda label, done, total: None,
) -> Analysis:
    """Triage the dump or the log at ``path``, which may be a URL.

    ``rasdaemon_db`` is the database of the host's rasdaemon.  Raises ``DumpError`` or
    ``SymbolsError``, and ``UsageError`` for a URL or a database that is not there.
    """
    if rasdaemon_db is not None and not rasdaemon_db.is_file():
        raise UsageError(
            f"there is no file {str(rasdaemon_db)!r}",
            "copy it from the host: /var/lib/rasdaemon/ras-mc_event.db",
        )
    wanted = _Wanted(vmlinux, scan_seconds, rasdaemon_db, progress)
    if is_url(str(path)):
        return _analyze_remote(str(path), wanted)
    path = Path(path)
    log = open_log(located_log(path))
    if log is not None:
        return _of_log(log, wanted)
    # A log needs none of this, nor drgn behind it.
    from mftriage.dump import open_dump

    return _of_dump(open_dump(path, progress), wanted)


def _analyze_remote(url: str, wanted: _Wanted) -> Analysis:
    from mftriage.remote import open_remote, shown

    file = open_remote(url)
    try:
        log = log_in(file, shown(url))
        if log is not None:
            analysis = _of_log(log, wanted)
            if file.failure is not None:
                raise file.failure
            return analysis
        from mftriage.dump import open_remote_dump

        dump = open_remote_dump(shown(url), file, wanted.progress)
    except BaseException:
        file.close()
        raise
    return _of_dump(dump, wanted)


def _of_log(log: LogFile, wanted: _Wanted) -> Analysis:
    from mftriage.from_log import facts_of_log

    facts = facts_of_log(log)
    _add_past(facts, wanted.rasdaemon_db)
    return Analysis(conclude(facts), None, facts)


def _of_dump(dump: Dump, wanted: _Wanted) -> Analysis:
    from mftriage.kernel.gather import gather
    from mftriage.symbols import open_kernel

    try:
        kernel = open_kernel(dump, wanted.vmlinux, wanted.progress)
        facts = gather(kernel, wanted.scan_seconds)
        dump.check()
        _add_past(facts, wanted.rasdaemon_db)
        return Analysis(conclude(facts), (dump, kernel), facts)
    except BaseException as error:
        dump.close()
        if isinstance(error, Exception):
            dump.check()  # what broke may be the server's doing
        raise


def _add_past(facts: Facts, rasdaemon_db: Path | None) -> None:
    """Add what the host's own database tells of the time before the crash."""
    if rasdaemon_db is None:
        return
    from mftriage.past import add_past

    add_past(facts, rasdaemon_db)


def conclude(facts: Facts) -> Triage:
    """From facts to the result."""
    verdict, _ = decide(facts)
    page = _page(facts, verdict)
    dimm = suspect(facts, page)
    facts.corrected_errors = facts.corrected_errors or corrected_history(facts.hardware_errors)
    cut: list[NotChecked] = []
    return Triage(
        tool=Tool(name="mftriage", version=__version__),
        dump=facts.dump,
        verdict=verdict,
        panic=_with_syndrome(facts.panic),
        memory_failures=_bounded(
            "memory_failures", (*facts.earlier_failures, *facts.memory_failures), cut
        ),
        page=page,
        poisoned_pages=facts.poisoned_pages,
        num_poisoned_pages=facts.num_poisoned_pages,
        panic_on_unrecoverable_memory_failure=facts.sysctl,
        has_panic_on_unrecoverable_memory_failure=facts.has_sysctl,
        hw_memory_failure=facts.hw_memory_failure,
        hardware_errors=_decoded(
            _bounded("hardware_errors", (*facts.earlier_errors, *facts.hardware_errors), cut)
        ),
        corrected_errors=(*facts.corrected_errors, *facts.past_corrected),
        history=facts.history,
        page_requests=facts.page_requests,
        dimm=dimm,
        error_to_crash_seconds=_delay(facts, page),
        signature=signature(
            verdict, page, facts.panic, next(reversed(facts.hardware_errors), None)
        ),
        actions=actions(facts, verdict, page, dimm),
        timeline=timeline(facts, page if verdict.kind == "delayed-crash" else None),
        not_checked=(*facts.not_checked, *cut),
    )


def _bounded(key: str, events: tuple[T, ...], cut: list[NotChecked]) -> tuple[T, ...]:
    """The first and the last events of a flood, which would make a result that nothing can hold."""
    if len(events) <= _MAX_EVENTS:
        return events
    half = _MAX_EVENTS // 2
    why = f"the dump has {len(events)}; the verdict is by all, the result has the first and the last {half}"
    remedy = "look at the kernel log in the dump: see docs/guide.md"
    cut.append(NotChecked(what=f"all of {key}", why=why, remedy=remedy))
    return (*events[:half], *events[-half:])


def _decoded(errors: tuple[HardwareError, ...]) -> tuple[HardwareError, ...]:
    """The records with their registers bit by bit; of a flood, those that were not corrected first."""
    ranked = sorted(
        range(len(errors)),
        key=lambda at: (errors[at].previous_boot, errors[at].severity == "corrected"),
    )
    chosen = {*ranked[:_MAX_DECODED]}
    return tuple(
        replace(error, decoded=of_record(error)) if at in chosen else error
        for at, error in enumerate(errors)
    )


def _with_syndrome(panic: Panic | None) -> Panic | None:
    return panic and replace(panic, decoded_syndrome=of_syndrome(panic.syndrome))


def _page(facts: Facts, verdict: Verdict) -> PageInfo | None:
    """The page that the verdict is about; else that of the worst failure, else of the last one."""
    candidates = [] if verdict.pfn is None else [int(verdict.pfn, 16)]
    if verdict.kind == "fatal-hardware-error":
        candidates += [int(e.pfn, 16) for e in facts.memory_failures if e.panicked]
        for record in reversed(facts.hardware_errors):
            pfn = facts.pfn_of(record.physical_address)
            if pfn is not None and record.severity not in ("corrected", "deferred"):
                candidates.append(pfn)
    candidates += [int(e.pfn, 16) for e in reversed(facts.unrecovered())]
    candidates += [int(e.pfn, 16) for e in reversed(facts.memory_failures)]
    candidates += [int(p.pfn, 16) for p in facts.poisoned_pages]
    return next((facts.pages[pfn] for pfn in candidates if pfn in facts.pages), None)


def _delay(facts: Facts, page: PageInfo | None) -> float | None:
    """Seconds from the first word of the page's error to the crash."""
    died = facts.panic.time if facts.panic else None
    if page is None or died is None:
        return None
    pfn = int(page.pfn, 16)
    exact = [r.time for r in facts.records_of(pfn) if r.time_is_exact and r.severity != "corrected"]
    told = [e.time for e in facts.memory_failures if int(e.pfn, 16) == pfn]
    times = [t for t in (*exact, *told) if t is not None and t <= died]
    return round(died - min(times), 6) if times else None

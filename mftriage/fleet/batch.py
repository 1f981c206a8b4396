"""The nightly job of a fleet: every dump of a source analysed once, whatever is in it."""

from __future__ import annotations

import signal
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from mftriage import __version__
from mftriage.errors import UsageError
from mftriage.fleet.job import Job, Outcome, Settings
from mftriage.fleet.kind import companions
from mftriage.fleet.layout import LAYOUT, Layout
from mftriage.fleet.ledger import Known, Ledger, key_of
from mftriage.fleet.pool import Done, Limits, outcomes
from mftriage.fleet.source import Entry, Source, open_source
from mftriage.redact import redacting

__all__ = ["Limits", "Plan", "Settings", "Summary", "Watch", "run"]

_LARGE = 1000  # dumps


@dataclass(frozen=True)
class Plan:
    """What a batch is to do.

    ``since`` leaves out what was last changed before it (seconds since 1970), ``limit`` all but so
    many of the newest of those that are to be analysed; a failed dump is tried again in
    ``retries`` later runs.  ``cluster`` is the address of a Dask scheduler that has the work done.
    """

    settings: Settings
    limits: Limits
    jobs: int
    since: float | None = None
    limit: int | None = None
    retries: int = 2
    cluster: str | None = None


@dataclass
class Summary:
    """What a batch did: ``new`` counts by status what this run found out, ``all`` what stands now.

    ``failed`` are those of this run, ``left`` the number that ``limit`` left for the next;
    ``reports`` are the results in JSON that this run wrote.
    """

    new: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    failed: list[Known] = field(default_factory=list)
    reports: list[Path] = field(default_factory=list)
    left: int = 0


class Watch(Protocol):
    """Who is told how it goes."""

    def begin(self, entries: int, jobs: int) -> None:
        """So many files are there, of which so many are to be analysed."""
        ...

    def done(self, known: Known) -> None:
        """One of these has its record."""
        ...

    def tick(self) -> None:
        """Time goes by."""
        ...

    def end(self) -> None:
        """No more will come, for whatever reason."""
        ...


def run(location: str, out: Path, plan: Plan, watch: Watch) -> Summary:
    """Analyse what is new in the source at ``location`` into the folder ``out``.

    Raises ``UsageError`` where either can't be used, and ``KeyboardInterrupt`` upon SIGTERM too.
    All that was done until then is kept.
    """
    source = open_source(location)
    layout = Layout(out.absolute())
    if str(layout.root.resolve()) == source.location:
        raise UsageError(
            "the results can't go where the dumps are", "name another folder: --out DIR"
        )
    symbols = plan.settings.symbols
    if symbols is not None and symbols != "auto" and not Path(symbols).exists():
        raise UsageError(
            f"there is no file {symbols!r}", "name a vmlinux or a folder, or leave -s out"
        )
    layout.adopt(source.location)
    with layout.locked() as lock, _orderly_end():
        layout.adopt(source.location)  # another batch may have been first
        if plan.settings.redact_map is not None:
            with redacting(Path(plan.settings.redact_map)):
                pass  # one that can't be used is told here, not once a dump
        ledger = Ledger(layout)
        ledger.sweep()
        batch = _Batch(source, layout, ledger, plan, watch)
        try:
            summary = batch.run(lock)
            _compact(layout, summary)
            return summary
        finally:
            watch.end()


def _compact(layout: Layout, summary: Summary) -> None:
    """Keep the table of a large fleet quick to read; that of a small one is read from its records."""
    if not summary.new or summary.all.total() < _LARGE:
        return
    # Neither a missing pyarrow nor a full disk costs a result.
    with suppress(ImportError, OSError):
        from mftriage.fleet import parts

        parts.compact(layout.root)


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Take SIGTERM, which service managers send, for a Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Batch:
    """One run."""

    def __init__(
        self, source: Source, layout: Layout, ledger: Ledger, plan: Plan, watch: Watch
    ) -> None:
        self._source = source
        self._layout = layout
        self._ledger = ledger
        self._plan = plan
        self._watch = watch
        self._settings = asdict(plan.settings)
        self._now: dict[str, Known] = {}  # what stands, by name
        self._entries: dict[str, Entry] = {}  # those that are analysed, by key
        self._todo: deque[Job] = deque()
        self._beside: dict[str, tuple[Entry, set[str]]] = {}  # logs, and the dumps they belong to
        self._logs: dict[str, list[str]] = {}  # the same, by dump
        self._summary = Summary()

    def run(self, lock: int) -> Summary:
        """See ``run``."""
        entries = self._listed()
        for entry in entries:
            if entry.name not in self._beside:
                self._take(entry)
        for log in self._beside:
            self._settle(log)
        self._forget_folders()
        if self._plan.limit is not None:
            while len(self._todo) > self._plan.limit:
                self._todo.pop()
                self._summary.left += 1
        self._watch.begin(len(entries), len(self._todo))
        with closing(self._outcomes(lock)) as ended:
            for done in ended:
                if done is None:
                    self._watch.tick()
                    continue
                entry = self._entries.pop(done.job.key)
                self._watch.done(self._commit(entry, done.outcome, done.seconds, done.peak_bytes))
                for log in self._logs.get(entry.name, ()):
                    self._settle(log)
        return self._summed()

    def _outcomes(self, lock: int) -> Generator[Done | None]:
        plan = self._plan
        if plan.cluster is None:
            return outcomes(self._todo, plan.jobs, plan.limits, lock)
        from mftriage.fleet import cluster

        return cluster.outcomes(self._todo, plan.cluster, plan.limits)

    def _listed(self) -> list[Entry]:
        """The entries of the source, the newest first."""
        entries = sorted(self._source.list(), key=lambda e: (e.modified, e.name), reverse=True)
        files = {e.name: e for e in entries if e.problem is None and e.other is None}
        for folder, names in groupby(sorted(files, key=_folder), _folder):
            for log, dumps in companions(name[len(folder) :] for name in names).items():
                self._beside[folder + log] = files[folder + log], {folder + d for d in dumps}
                for dump in dumps:
                    self._logs.setdefault(folder + dump, []).append(folder + log)
        since = self._plan.since
        return [e for e in entries if since is None or e.modified >= since]

    def _take(self, entry: Entry) -> None:
        """See what is known of an entry; put it in the queue if that is not all there is to know."""
        key = key_of(entry, self._settings)
        known = self._ledger.get(key)
        if known and (known.status != "failed" or known.attempts > self._plan.retries):
            self._now[entry.name] = known
        elif entry.problem is not None:
            self._commit(entry, Outcome("failed", entry.problem))
        elif entry.other is not None:
            self._commit(entry, Outcome("skipped", entry.other))
        else:
            self._entries[key] = entry
            job = Job(
                key, self._source.location, entry.name, str(self._layout.root), self._settings
            )
            self._todo.append(job)

    def _settle(self, log: str) -> None:
        """A log that was saved with a dump tells of the crash where no such dump can be read."""
        entry, dumps = self._beside[log]
        states = [self._now[dump].status for dump in dumps if dump in self._now]
        if "ok" in states:
            if known := self._ledger.named(log):
                self._ledger.forget(known)
                self._now.pop(log, None)
        elif len(states) == len(dumps):
            self._take(entry)

    def _forget_folders(self) -> None:
        """Let go of the records of folders that can be listed by now."""
        unlisted = {known.key for name, known in self._now.items() if name.endswith("/")}
        for known in self._ledger.all():
            if known.source.endswith("/") and known.key not in unlisted:
                self._ledger.forget(known)

    def _commit(
        self, entry: Entry, outcome: Outcome, seconds: float = 0.0, peak_bytes: int = 0
    ) -> Known:
        key = key_of(entry, self._settings)
        before = self._ledger.get(key)
        record: dict[str, Any] = {
            "layout": LAYOUT,
            "key": key,
            "source": entry.name,
            "identity": entry.identity,
            "status": outcome.status,
            "reason": outcome.reason,
            "attempts": before.attempts + 1 if before else 1,
            "seconds": seconds,
            "peak_bytes": peak_bytes,
            "finished": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "tool_version": __version__,
            "settings": self._settings,
            "row": outcome.row,
        }
        known = self._ledger.commit(record)
        self._now[entry.name] = known
        self._summary.new[known.status] += 1
        if known.status == "failed":
            self._summary.failed.append(known)
        if known.verdict is not None:
            self._summary.reports.append(self._layout.artifact(key, ".json"))
        return known

    def _summed(self) -> Summary:
        for known in self._now.values():
            self._summary.all[known.status] += 1
            if known.verdict is not None:
                self._summary.verdicts[known.verdict] += 1
        return self._summary


def _folder(name: str) -> str:
    return name[: name.rfind("/") + 1]

"""The analysis of one dump of a batch: what a worker process does, from the file to its results."""

from __future__ import annotations

from pathlib import Path

from mftriage import codec
from mftriage.errors import MftriageError, SymbolsError
from mftriage.fleet.job import Job, Outcome, Settings
from mftriage.fleet.kind import claims, something_else
from mftriage.fleet.layout import Layout, write_whole
from mftriage.fleet.row import row_of
from mftriage.fleet.source import open_source
from mftriage.logfile import NotALogError
from mftriage.model import Triage
from mftriage.render import render
from mftriage.triage import Analysis, analyze

__all__ = ["run"]


def run(job: Job) -> Outcome:
    """Analyse the dump and write its report, page and capsule; whatever is wrong with it is an outcome."""
    settings = Settings(**job.settings)
    try:
        with open_source(job.location).local(job.name) as path:
            other = something_else(path, job.name)
            if other is not None:
                return Outcome("skipped", other)
            try:
                analysis, remark = _analyzed(path, settings)
            except NotALogError as error:
                if claims(job.name):
                    return Outcome("failed", error.message)
                return Outcome("skipped", "a text, but no kernel log")
            try:
                triage = _masked(analysis.triage, settings)
                layout = Layout(Path(job.out))
                write_whole(layout.artifact(job.key, ".json"), codec.to_json(triage).encode())
                write_whole(layout.artifact(job.key, ".html"), render(triage, "html").encode())
                if settings.capsules and analysis.opened is not None:
                    _write_capsule(analysis, layout.artifact(job.key, ".elf.zst"))
                return Outcome("ok", remark, row_of(triage))
            finally:
                analysis.close()
    except MftriageError as error:
        return Outcome("failed", error.message)
    except MemoryError:
        return Outcome("failed", "its analysis needs more memory than --memory allows")
    except OSError as error:
        return Outcome("failed", f"can't write its results: {error.strerror}")
    except Exception as error:
        # a bug of ours: that one dump meets it must not end the others
        return Outcome("failed", f"a bug of mftriage: {type(error).__name__}: {error}"[:500])


def _analyzed(path: Path | str, settings: Settings) -> tuple[Analysis, str | None]:
    """The analysis, and what is to be said of it.  Raises ``MftriageError``."""
    try:
        return analyze(path, vmlinux=settings.symbols, scan_seconds=settings.scan_seconds), None
    except SymbolsError as error:  # a fleet runs more kernels than anyone has debug info of
        analysis = analyze(path, scan_seconds=settings.scan_seconds)
        return analysis, f"analysed without --symbols: {error.message}"


def _masked(triage: Triage, settings: Settings) -> Triage:
    if settings.redact_map is None:
        return triage
    from mftriage.redact import redacting

    with redacting(Path(settings.redact_map)) as redactor:
        return redactor.triage(triage)


def _write_capsule(analysis: Analysis, target: Path) -> None:
    from mftriage.capsule import write

    target.parent.mkdir(parents=True, exist_ok=True)
    write(analysis, target, lean=True, force=True)

"""Rewrite the golden reports of every fixture: ``python -m tests.refresh``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mftriage.model import Triage
from mftriage.render import FORMATS, render, suffix
from mftriage.triage import analyze

ROOT = Path(__file__).parents[1]
FIXTURES = sorted(path.parent for path in (ROOT / "fixtures").glob("*/capsule.elf.zst"))


def triage_of(fixture: Path) -> Triage:
    """The triage of a fixture, with its path as the gallery shows it."""
    analysis = analyze(fixture / "capsule.elf.zst")
    analysis.dump.close()
    triage = analysis.triage
    path = f"fixtures/{fixture.name}/capsule.elf.zst"
    return replace(triage, dump=replace(triage.dump, path=path))


def golden(fixture: Path, fmt: str) -> Path:
    """Where the rendered report of a fixture stands."""
    return ROOT / "reports" / f"{fixture.name}{suffix(fmt)}"


def main() -> None:
    """Write them all."""
    for fixture in FIXTURES:
        triage = triage_of(fixture)
        for fmt in FORMATS:
            golden(fixture, fmt).write_text(render(triage, fmt), encoding="utf-8")


if __name__ == "__main__":
    main()

"""A small fleet: the committed fixtures' triages as the results of a batch, each with a host."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from mftriage.codec import from_json
from mftriage.fleet import load
from mftriage.fleet.row import row_of
from mftriage.render import render
from tests.craft import FIXTURES, ROOT

TRUTH = {
    path.parent.name: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(FIXTURES.glob("*/expected.json"))
}
NAMES = list(TRUTH)
KINDS = Counter(truth["verdict"] for truth in TRUTH.values())
INJECTED = "x86_64-dentry-hwpoison-inject"
KINDS[TRUTH[INJECTED]["verdict"]] -= 1
MEMORY = KINDS["unrecoverable-panic"] + KINDS["fatal-hardware-error"] + KINDS["delayed-crash"]
DUMPS = len(NAMES) + 1  # with the one that can't be read


def put(folder: Path, source: str, **fields: Any) -> str:
    """A result as the batch writes it; returns its key."""
    key = sha256(source.encode("utf-8", "backslashreplace")).hexdigest()[:48]
    record = {
        "layout": 1, "key": key, "source": source, "status": "ok", "reason": None, "attempts": 1,
        "seconds": 0.4, "finished": "2026-12-24T01:00:00Z", "tool_version": "0.1.0", "settings": {},
        "identity": {"size_bytes": 3_000_000, "mtime_ns": 1}, **fields,
    }  # fmt: skip
    path = folder / "results" / key[:2] / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), encoding="utf-8")
    return key


def write(folder: Path) -> Path:
    """All fixtures, on seven hosts, with the page of each that memory is blamed for; a failed dump, and a file that is none."""
    for number, name in enumerate(NAMES):
        triage = from_json((ROOT / "reports" / f"{name}.json").read_text(encoding="utf-8"))
        triage = replace(triage, dump=replace(triage.dump, hostname=f"node{number % 7}"))
        key = put(folder, f"{name}/vmcore", row=row_of(triage))
        page = folder / "reports" / key[:2] / f"{key}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(render(triage, "html"), encoding="utf-8")
    put(folder, "broken/vmcore", status="failed", reason="it is cut short", row=None)
    put(folder, "README.txt", status="skipped", reason="a text, but no kernel log", row=None)
    return folder


def frame_of(folder: Path, *rows: dict[str, Any]) -> pd.DataFrame:
    """A table of these rows, each with a time of its own unless it has one."""
    for number, row in enumerate(rows):
        whole = {"crash_time": f"2026-11-{number + 1:02}T00:00:00Z", "recovered_before": 0, **row}
        put(folder, str(number), row=whole)
    return load(folder)

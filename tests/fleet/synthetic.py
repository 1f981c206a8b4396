"""A fleet that never was: as many rows as wanted, of the sort that real ones have, always the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mftriage.fleet.results import SCHEMA, STAMP

KINDS = (
    *("unrecoverable-panic", "fatal-hardware-error", "delayed-crash", "possible-delayed-crash"),
    *("unrelated", "hardware-not-memory", "no-crash", "inconclusive"),
)  # fmt: skip
_CACHES = (
    *("dentry", "inode_cache", "kmalloc-512", "task_struct", "radix_tree_node"),
    *("buffer_head", "ext4_inode_cache", "anon_vma"),
)  # fmt: skip
_OWNERS = ("slab", "page-table", "kernel-stack", "vmalloc", "anon", "page-cache")
_KERNELS = tuple(f"7.{minor}.{patch}" for minor in range(1, 5) for patch in range(10))
_START, _SPAN = 1_735_689_600, 690 * 86_400  # 2025, and nearly two years of it


def table(count: int, seed: int = 1) -> pa.Table:
    """Rows of a batch: most crashes have nothing to do with memory, and some DIMMs are bad."""
    dice = np.random.default_rng(seed)
    hosts = max(1, count // 12)
    host = dice.integers(0, hosts, count)
    # one host in thirty has a bad DIMM, and most of its crashes come from it
    bad = (host % 30 == 0) & (dice.random(count) < 0.7)
    kind = np.where(bad, dice.choice(4, count, p=(0.5, 0.1, 0.3, 0.1)), 0)
    kind = np.where(bad, kind, dice.choice([4, 5, 6, 7], count, p=(0.8, 0.05, 0.12, 0.03)))
    failed = dice.random(count) < 0.005
    later = bad & (kind >= 2)
    owner = dice.integers(0, len(_OWNERS), count)
    slab = bad & (owner == 0)
    pfn = host * 7919 % 9_000_000 + dice.integers(0, 40, count)
    delay = np.where(later, 10 ** dice.uniform(0, 5.5, count), 10 ** dice.uniform(-4, -1.5, count))
    seconds = _START + dice.integers(0, _SPAN, count)
    ok = ~failed

    def words(values: tuple[str, ...], index: np.ndarray, known: np.ndarray) -> pa.Array:
        codes = pa.array(index.astype("int32"), mask=~known)
        return pa.DictionaryArray.from_arrays(codes, pa.array(values, pa.string()))

    def text(form: str, index: np.ndarray, known: np.ndarray) -> pa.Array:
        return pa.array([form % i if k else None for i, k in zip(index, known, strict=True)])

    number = np.arange(count)
    names = tuple(f"node{i:06}.example" for i in range(hosts))
    values = {
        "key": text("%048x", (number * 0x9E3779B1) % 2**32 * 2**24 + number, number >= 0),
        "source": text("s3://crash/node/%09d/vmcore", number, number >= 0),
        "status": words(("ok", "failed"), failed.astype(int), number >= 0),
        "reason": text("cut short %d", number, failed),
        "seconds": pa.array(dice.random(count) * 2),
        "finished": pa.array(seconds * 1_000_000 + 3_600_000_000, pa.timestamp("us", "UTC")),
        "host": words(names, host, ok),
        "crash_time": pa.array(seconds * 1_000_000, pa.timestamp("us", "UTC"), mask=failed),
        "kernel": words(_KERNELS, host % len(_KERNELS), ok),
        "arch": words(("x86_64", "arm64"), host % 2, ok),
        "verdict": words(KINDS, kind, ok),
        "confidence": words(("certain", "medium"), (kind == 3).astype(int), ok),
        "summary": text("The kernel panicked at once on page %#x.", pfn, ok & bad),
        "signature": words(
            tuple(f"2:{k}:{c}" for k in KINDS for c in _CACHES), kind * 8 + host % 8, ok & bad
        ),
        "pfn": text("%#x", pfn, ok & bad),
        "owner": words(_OWNERS, owner, ok & bad),
        "slab_cache": words(_CACHES, host % len(_CACHES), ok & slab),
        "dimm": words(tuple(f"{n} DIMM_A1" for n in names), host, ok & bad & (host % 2 == 0)),
        "dimm_label": words(("DIMM_A1",), host * 0, ok & bad & (host % 2 == 0)),
        "injected": pa.array(host % 301 == 300, mask=~(ok & bad)),
        "delay_seconds": pa.array(delay, mask=~(ok & bad)),
        "caught_at_once": pa.array(owner < 2, mask=~(ok & later)),
        "recovered_before": pa.array((dice.random(count) < 0.02).astype("int64"), mask=failed),
        STAMP: pa.array(number),
    }
    values["cause"] = values["signature"]
    columns = [values.get(field.name, pa.nulls(count, field.type)) for field in SCHEMA]
    return pa.table(columns, names=SCHEMA.names).cast(SCHEMA)


def write(folder: Path, count: int, seed: int = 1) -> Path:
    """A folder that has a fleet's table alone, in one part as a compaction leaves it."""
    (folder / "table").mkdir(parents=True)
    meta = {b"mftriage": json.dumps({"layout": 1, "whole": True, "folders": {}}).encode()}
    made = table(count, seed).replace_schema_metadata(meta)
    pq.write_table(made, folder / "table" / "part-000001.parquet", compression="zstd")
    return folder

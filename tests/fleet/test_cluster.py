"""Batches on a Dask cluster: a scheduler and workers as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.craft import FIXTURES, ROOT, mftriage

NAMES = ("x86_64-far-flip", "x86_64-anon", "arm64-fatal", "x86_64-oops")


class Cluster:
    """A scheduler with two workers of one thread each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        }
        self.processes = [self._start("scheduler", "--port", "0", "--dashboard-address", ":0")]
        self.workers = [
            self._start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", n)
            for n in ("one", "two")
        ]
        self.processes += self.workers

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        told = str(self._folder / "scheduler.json")
        command = [sys.executable, "-m", "distributed.cli.dask_" + what]
        return subprocess.Popen(
            [*command, "--scheduler-file", told, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            cwd=self._folder,
        )

    @property
    def address(self) -> str:
        for _ in range(300):
            try:
                address: str = json.loads((self._folder / "scheduler.json").read_text())["address"]
                return address
            except (OSError, ValueError):
                time.sleep(0.1)
        raise AssertionError("no scheduler")

    def end(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("dask"))
    yield made
    made.end()


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket"
    for number in range(24):
        name = NAMES[number % len(NAMES)]
        dump = folder / f"host{number}" / "vmcore.zst"
        dump.parent.mkdir(parents=True)
        dump.write_bytes((FIXTURES / name / "capsule.elf.zst").read_bytes())
    (folder / "vmcore.broken").write_bytes(b"KDUMP   and no more")
    return folder


def table(out: Path) -> dict[str, Any]:
    """What the records say, but for when and how fast."""
    rows = {}
    for path in out.glob("results/*/*.json"):
        record = json.loads(path.read_text())
        row = record["row"]
        if row:
            row = {k: v for k, v in row.items() if k not in ("seconds", "finished")}
        rows[record["source"]] = record["status"], record["reason"], row, record["key"]
    return rows


def test_the_table_is_that_of_one_machine_though_a_worker_dies(
    cluster: Cluster, bucket: Path, tmp_path: Path
) -> None:
    alone = mftriage("batch", str(bucket), "--out", str(tmp_path / "alone"), "--jobs", "2")
    assert alone.returncode == 4
    batch = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mftriage",
            "batch",
            str(bucket),
            "--out",
            str(tmp_path / "out"),
            "--cluster",
            cluster.address,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not len(list(tmp_path.glob("out/results/*/*.json"))) >= 4:
        assert batch.poll() is None, batch.communicate()
        time.sleep(0.05)
    cluster.workers[0].send_signal(signal.SIGKILL)
    _, told = batch.communicate(timeout=120)
    assert batch.returncode == 4, told
    assert table(tmp_path / "out") == table(tmp_path / "alone")
    assert len(table(tmp_path / "out")) == 25
    again = mftriage("batch", str(bucket), "--out", str(tmp_path / "out"), "--retries", "0")
    assert again.returncode == 4 and "25 known" in again.stdout


def test_limits_hold_in_a_worker(cluster: Cluster, tmp_path: Path) -> None:
    bucket, out = tmp_path / "bucket", tmp_path / "out"
    bucket.mkdir()
    (bucket / "vmcore.zst").symlink_to(FIXTURES / "x86_64-dentry" / "capsule.elf.zst")
    (bucket / "dmesg.txt").write_text("[    1.0] Linux version 7.3.4\n")
    ended = mftriage(
        *("batch", str(bucket), "--out", str(out), "--cluster", cluster.address),
        *("--memory", "1M"),
    )
    assert ended.returncode == 4, ended.stderr
    failed = table(out)["vmcore.zst"]
    assert failed[0] == "failed" and failed[1]


def test_no_cluster(bucket: Path, tmp_path: Path) -> None:
    ended = mftriage(
        *("batch", str(bucket), "--out", str(tmp_path / "out"), "--cluster", "nonsense")
    )
    assert ended.returncode == 2 and "no Dask scheduler" in ended.stderr
    assert "Traceback" not in ended.stderr

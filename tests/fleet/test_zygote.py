"""The fork server where the machine itself gives way; the rest of it is in test_batch.py."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from mftriage.fleet.job import Job
from mftriage.fleet.zygote import Zygote
from tests.craft import FIXTURES, ROOT
from tests.fleet.bucket import endless

JOB = Job("k", "/in", "vmcore", "/out", {})


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> NoReturn:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    ours, theirs = socket.socketpair()
    ours.sendall(json.dumps(JOB).encode() + b"\n")
    ours.shutdown(socket.SHUT_WR)
    Zygote(theirs, 1.0, 1 << 30).serve()
    key, outcome, *took = json.loads(ours.recv(10_000))
    assert (key, took) == ("k", [0.0, 0])
    assert outcome[0] == "failed" and "no process can be started" in outcome[1]


def test_a_worker_that_can_not_be_killed(tmp_path: Path) -> None:
    """As one in the driver of a dead disk: it is told of, and others have their turn."""
    endless(tmp_path / "vmcore.zst")
    code = """
import json, os, socket, sys
from dataclasses import asdict
from mftriage.fleet import zygote
from mftriage.fleet.job import Job, Settings
zygote._kill, zygote._GRACE = lambda pid: None, 0.2
ours, theirs = socket.socketpair()
if os.fork() == 0:
    ours.close()
    zygote.main(theirs.detach(), os.getppid(), 0.5, 1 << 30)
    os._exit(0)
job = Job("k", sys.argv[1], "vmcore.zst", sys.argv[1], asdict(Settings()))
ours.sendall(json.dumps(job).encode() + b"\\n")
print(ours.recv(10_000).decode())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    _, outcome, *_ = json.loads(done.stdout)
    assert outcome[:2] == [
        "failed",
        "its analysis can't be ended: it hangs in the kernel (a bad disk?)",
    ]


def test_workers_find_everything_imported(tmp_path: Path) -> None:
    """What each of them would import by itself is paid once, by the server."""
    code = """
import sys
from dataclasses import asdict
from mftriage.fleet import worker, zygote
from mftriage.fleet.job import Job, Settings
zygote.warm_up()
before = set(sys.modules)
settings = asdict(Settings(capsules=True))
for name in ("x86_64-anon-oops", "x86_64-rodata", "arm64-external-abort", "arm64-fatal"):
    job = Job("0" * 48, sys.argv[1], f"{name}/capsule.elf.zst", sys.argv[2], settings)
    assert worker.run(job).status == "ok", name
print(*sorted({*sys.modules} - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(FIXTURES), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.split() == []

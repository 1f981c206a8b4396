"""The batch as its own process, on buckets with everything in them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mftriage.codec import from_json
from mftriage.fleet.batch import Settings
from mftriage.fleet.layout import Layout
from mftriage.fleet.ledger import key_of
from mftriage.fleet.source import open_source
from tests.craft import FIXTURES, ROOT, mftriage
from tests.fleet.bucket import BROKEN, MAY_BE_READ, SMALL, endless, mixed, table

DENTRY = FIXTURES / "x86_64-dentry-hwpoison-inject" / "capsule.elf.zst"
LOG = "[    0.000000] Linux version 7.3.4 (x)\n[    1.500000] usb 1-1: new\n"
DEFAULTS = asdict(Settings())


def batch(source: Path, out: Path, *options: object, code: int = 0, **more: Any) -> str:
    """Run a batch; what it printed.  Its exit code has to be ``code``."""
    done = mftriage("batch", source, "--out", out, "--jobs", 2, *options, **more)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def bucket(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SMALL[index % len(SMALL)], path)
        os.utime(path, (1_700_000_000 + index, 1_700_000_000 + index))
    return root


@contextmanager
def running(source: Path, out: Path, *options: object) -> Iterator[subprocess.Popen[str]]:
    """A batch that is still at work."""
    command = [sys.executable, "-m", "mftriage", "batch", source, "--out", out, *options]
    with subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    """The processes that the process ``pid`` started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def waited_for(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that analyse a dump: in a group of their own by then, and so a worker's own."""
    return [
        worker
        for zygote in children(process.pid)
        for worker in children(zygote)
        if os.getpgid(worker) == worker
    ]


def gone(pids: list[int]) -> bool:
    def dead(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return all(map(dead, pids))


# what comes of a bucket


def test_each_dump_gets_its_record_report_and_page(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "a/vmcore.zst", "b/x"), tmp_path / "out"
    said = batch(source, out)
    assert "2 new: 2 ok, 0 failed, 0 skipped; 0 known" in said and f"mftriage fleet {out}" in said
    assert json.loads((out / "fleet.json").read_text()) == {"layout": 1, "source": str(source)}
    for entry in open_source(str(source)).list():
        key = key_of(entry, DEFAULTS)
        layout = Layout(out)
        record = json.loads(layout.record(key).read_text())
        triage = from_json(layout.artifact(key, ".json").read_text())
        assert record["source"] == entry.name and record["identity"] == entry.identity
        assert (record["status"], record["reason"], record["attempts"]) == ("ok", None, 1)
        assert record["row"]["verdict"] == triage.verdict.kind
        assert 0 < record["seconds"] < 60 and record["peak_bytes"] > 1 << 20
        assert layout.artifact(key, ".html").read_text().startswith("<!")
        assert not layout.artifact(key, ".elf.zst").exists()


def test_everything_has_a_row_whatever_it_is(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    ways = mixed(source, 200)
    assert set(ways.values()) == {None, *BROKEN}
    said = batch(source, out, "--timeout", "60s", code=4)
    records = table(out)
    assert {name.partition("/")[0] for name in records} == set(ways)
    for name, record in records.items():
        way = ways[name.partition("/")[0]]
        if way not in MAY_BE_READ:
            assert record["status"] == ("ok" if way is None else "failed"), (name, way, record)
        assert (record["row"] is None) == (record["status"] != "ok")
        assert (record["reason"] is None) == (record["status"] == "ok")
    assert f"{200 - sum(r['status'] == 'failed' for r in records.values())} ok" in said


def test_what_is_something_else_is_passed_over_with_a_row(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "host/vmcore"), tmp_path / "out"
    (source / "README").write_text("the fleet's dumps\n")
    (source / "vmcore.sha256").write_text("0123  vmcore\n")
    (source / "notes").write_text("call the vendor\n")
    shutil.copy(ROOT / "reports" / "x86_64-dentry.json", source / "result")
    (source / "latest").symlink_to("host")
    batch(source, out)
    assert {name: (r["status"], r["reason"]) for name, r in table(out).items()} == {
        "host/vmcore": ("ok", None),
        "README": ("skipped", "a document, by its name"),
        "vmcore.sha256": ("skipped", "a checksum, by its name"),
        "notes": ("skipped", "a text, but no kernel log"),
        "result": ("skipped", "JSON, by its content"),
        "latest": ("skipped", "a link to host/"),
    }


def test_the_log_beside_a_dump_is_heard_where_the_dump_can_not_be_read(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "good/vmcore", "bad/vmcore"), tmp_path / "out"
    for name in ("good", "bad"):
        (source / name / "vmcore-dmesg.txt").write_text(LOG)
    whole = (source / "bad" / "vmcore").read_bytes()
    (source / "bad" / "vmcore").write_bytes(b"KDUMP   ")
    batch(source, out, code=4)
    assert {name: record["status"] for name, record in table(out).items()} == {
        "good/vmcore": "ok",
        "bad/vmcore": "failed",
        "bad/vmcore-dmesg.txt": "ok",
    }
    (source / "bad" / "vmcore").write_bytes(whole)
    batch(source, out)
    assert set(table(out)) == {"good/vmcore", "bad/vmcore"}


def test_what_may_not_be_read(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "a/vmcore", "b/vmcore", "c/vmcore"), tmp_path / "out"
    (source / "a" / "vmcore").chmod(0)
    (source / "b").chmod(0)
    # root may read anything, but for this
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] * (os.getuid() == 0)
    command = [sys.executable, "-m", "mftriage", "batch", source, "--out", out]

    def found() -> dict[str, Any]:
        done = subprocess.run(
            [*prefix, *map(str, command)], env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == 4
        return table(out)

    first = found()
    assert "no permission" in first["a/vmcore"]["reason"]
    assert first["b/"]["reason"] == "can't list this folder: Permission denied"
    assert first["c/vmcore"]["status"] == "ok"
    (source / "b").chmod(0o755)
    then = found()
    assert then["b/vmcore"]["status"] == "ok" and "b/" not in then


def test_what_the_disk_does_not_give(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "good"), tmp_path / "out"
    (source / "vmcore").symlink_to("/proc/self/mem")  # EIO, as of a bad disk
    batch(source, out, code=4)
    found = table(out)
    assert found["vmcore"]["reason"].endswith("Input/output error")
    assert found["good"]["status"] == "ok"


def test_names_are_only_names(tmp_path: Path) -> None:
    name = "\x1b[31m\n\udcff<b>"
    source, out = bucket(tmp_path / "in", f"{name}/vmcore"), tmp_path / "out"
    (source / name / "bad").touch()
    said = batch(source, out, code=4)
    assert "\x1b" not in said and "\\x1b[31m" in said
    assert {record["status"] for record in table(out).values()} == {"ok", "failed"}


def test_capsules_say_the_same(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(DENTRY, source / "vmcore")
    (source / "dmesg.txt").write_text(LOG)  # of no dump of this name: vmcore's
    (source / "other.log").write_text(LOG)  # a log has no capsule
    batch(source, out, "--capsules")
    (capsule,) = (out / "capsules").glob("*/*")
    again = json.loads(mftriage("analyze", capsule, "-f", "json").stdout)
    record = table(out)["vmcore"]
    assert capsule.name == f"{record['key']}.elf.zst"
    assert again["verdict"]["summary"] == record["row"]["summary"]


def test_symbols_of_another_kernel_are_left_out(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "vmcore"), tmp_path / "out"
    (tmp_path / "debug").mkdir()
    batch(source, out, "-s", tmp_path / "debug")
    record = table(out)["vmcore"]
    assert record["status"] == "ok" and "analysed without --symbols" in record["reason"]


def test_a_single_file(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "vmcore", "other"), tmp_path / "out"
    batch(source / "vmcore", out)
    assert set(table(out)) == {"vmcore"}


# a second run


def test_only_what_is_new_is_done(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "a", "b", "c"), tmp_path / "out"
    batch(source, out)
    before = table(out)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("[!.]*") if path.is_file()}
    assert "0 new: 0 ok, 0 failed, 0 skipped; 3 known" in batch(source, out)
    assert files == {path: path.stat().st_mtime_ns for path in files}
    shutil.copy(SMALL[7], source / "b")  # changed
    shutil.copy(SMALL[8], source / "d")  # new
    (source / "c").unlink()  # gone from the bucket: its row stays
    assert "2 new: 2 ok, 0 failed, 0 skipped; 1 known" in batch(source, out)
    after = table(out)
    assert set(after) == {"a", "b", "c", "d"}
    assert after["a"] == before["a"] and after["b"]["key"] != before["b"]["key"]
    assert len(list((out / "reports").glob("*/*.html"))) == 4
    assert "3 new" in batch(source, out, "--scan-seconds", "5")  # other settings, other results


def test_since_and_limit(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "a", "b", "c", "d"), tmp_path / "out"
    said = batch(source, out, "--since", "2023-11-14T22:13:21Z", "--limit", "2")
    assert "2 new" in said and "1 left for the next run" in said
    assert set(table(out)) == {"c", "d"}  # the newest
    batch(source, out, "--since", "2023-11-14T22:13:21Z")
    assert set(table(out)) == {"b", "c", "d"}


def test_what_failed_is_tried_again_but_not_for_ever(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "vmcore").touch()
    for attempts in (1, 2, 2):
        batch(source, out, "--retries", "1", code=4)
        assert table(out)["vmcore"]["attempts"] == attempts
    batch(source, out, "--retries", "2", code=4)
    assert table(out)["vmcore"]["attempts"] == 3


def test_ten_thousand_known_dumps_take_no_time(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "vmcore"), tmp_path / "out"
    batch(source, out)
    (record,) = (json.loads(path.read_text()) for path in out.glob("results/*/*.json"))
    for index in range(10_000):
        folder = source / f"day-{index % 30}" / f"host-{index}"
        folder.mkdir(parents=True)
        (folder / "vmcore").touch()
    layout = Layout(out)
    for entry in open_source(str(source)).list():
        key = key_of(entry, DEFAULTS)
        layout.record(key).parent.mkdir(exist_ok=True)
        layout.record(key).write_text(json.dumps({**record, "key": key, "source": entry.name}))
    # as the child of a small process: a child's peak begins with what its parent had
    code = (
        "import resource, subprocess, sys, time; start = time.monotonic()\n"
        "print(subprocess.run(sys.argv[1:], capture_output=True, text=True, check=True).stdout)\n"
        "print(time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    command = [sys.executable, "-m", "mftriage", "batch", source, "--out", out]
    times = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, command)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "0 new: 0 ok, 0 failed, 0 skipped; 10,001 known" in done.stdout
        seconds, peak = done.stdout.split()[-2:]
        assert int(peak) < 200 << 10
        times.append(float(seconds))
    assert min(times) < 3


# processes that die


def test_a_dump_that_takes_too_long(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "good"), tmp_path / "out"
    endless(source / "vmcore.zst")
    start = time.monotonic()
    batch(source, out, "--timeout", "2s", code=4)
    assert time.monotonic() - start < 30
    found = table(out)
    assert found["vmcore.zst"]["reason"] == "its analysis took more than 2 s (--timeout)"
    assert found["good"]["status"] == "ok"


def test_a_dump_that_takes_too_much_memory(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", "vmcore"), tmp_path / "out"
    batch(source, out, "--memory", "1M", code=4)
    record = table(out)["vmcore"]
    assert record["status"] == "failed" and record["reason"].startswith("its analysis ")
    batch(source, out, "--memory", "500M")
    assert table(out)["vmcore"]["attempts"] == 2


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, "its analysis crashed (SIGSEGV)"),
        (signal.SIGBUS, "its analysis crashed (SIGBUS)"),
        (signal.SIGKILL, "its analysis was killed, as the kernel does when memory runs out"),
        (signal.SIGSTOP, "its analysis took more than 5 s (--timeout)"),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_a_worker_that_dies_or_hangs(tmp_path: Path, number: int, reason: str) -> None:
    source, out = bucket(tmp_path / "in", "good"), tmp_path / "out"
    endless(source / "vmcore.zst")
    with running(source, out, "--jobs", "1", "--timeout", "5s") as process:
        (worker,) = waited_for(lambda: workers(process))
        os.kill(worker, number)
        assert process.wait(30) == 4
    found = table(out)
    assert found["vmcore.zst"]["reason"] == reason
    assert found["good"]["status"] == "ok"


def test_the_fork_server_may_die_too(tmp_path: Path) -> None:
    source, out = bucket(tmp_path / "in", *(f"dump-{i}" for i in range(30))), tmp_path / "out"
    with running(source, out, "--jobs", "2") as process:
        (zygote,) = waited_for(lambda: workers(process) and children(process.pid))
        os.kill(zygote, signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "30 new: 30 ok" in said


def test_the_fork_server_has_no_threads(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    endless(source / "vmcore.zst")
    with running(source, out, "--jobs", "1") as process:
        waited_for(lambda: workers(process))
        (zygote,) = children(process.pid)
        assert len(os.listdir(f"/proc/{zygote}/task")) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    source, out = bucket(tmp_path / "in", "good"), tmp_path / "out"
    endless(source / "vmcore.zst")
    with running(source, out, "--jobs", "2") as process:
        waited_for(lambda: list(out.glob("results/*/[!.]*.json")))
        family = children(process.pid) + workers(process)
        assert len(family) == 2
        process.send_signal(number)
        assert process.wait(10) == 130
        assert "Traceback" not in process.stdout.read()  # type: ignore[union-attr]
    waited_for(lambda: gone(family))
    assert set(table(out)) == {"good"}


def test_killed_and_all_its_workers_with_it(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    endless(source / "vmcore.zst")
    with running(source, out, "--jobs", "1") as process:
        waited_for(lambda: workers(process))
        family = children(process.pid) + workers(process)
        process.kill()
        waited_for(lambda: gone(family))


def test_killed_twenty_times_and_nothing_is_lost(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    mixed(source, 60)
    batch(source, tmp_path / "undisturbed", "--retries", "0", code=4)
    chance = random.Random(1)
    left = []
    for _ in range(20):
        with running(source, out, "--jobs", "2", "--retries", "0") as process:
            time.sleep(chance.uniform(0.1, 1.0))
            process.kill()
        left.append(len(table(out)))
    assert left == sorted(left)
    batch(source, out, "--retries", "0", code=4)
    assert table(out) == table(tmp_path / "undisturbed")
    names = {path.name for path in out.rglob("*") if path.is_file()} - {".lock", "fleet.json"}
    ok = {r["key"] for r in table(out).values() if r["status"] == "ok"}
    assert names == {f"{r['key']}.json" for r in table(out).values()} | {f"{k}.html" for k in ok}


def test_two_at_once(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    endless(source / "vmcore.zst")
    with running(source, out) as process:
        waited_for(lambda: workers(process))
        said = batch(source, out, code=2)
    assert f"another batch is at work on {str(out)!r}: process {process.pid} on " in said


# the command line


def test_exit_code_by_verdict(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(FIXTURES / "x86_64-large-kmalloc" / "capsule.elf.zst", source / "vmcore")
    kind = "unrecoverable-panic"
    (source / "empty").touch()
    batch(source, out, "--fail-on", kind, code=1)
    assert table(out)["vmcore"]["row"]["verdict"] == kind
    batch(source, out, "--fail-on", "possible-delayed-crash", code=1)
    batch(source, out, code=4)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("ftp://bucket/x", (), "there is no such kind of source"),
        ("nowhere", (), "can't look at 'nowhere'"),
        (".", ("--since", "tomorrow"), "'tomorrow' is no time"),
        (".", ("--memory", "lots"), "'lots' is no size"),
        (".", ("--timeout", "x"), "'x' is no length of time"),
        (".", ("--fail-on", "x"), "--fail-on knows no verdict 'x'"),
        (".", ("-s", "nowhere"), "there is no file 'nowhere'"),
    ],
)
def test_what_can_not_be_done(
    tmp_path: Path, source: str, options: tuple[str, ...], said: str
) -> None:
    done = mftriage("batch", source, "--out", "out", *options, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(f"mftriage: {said}"), done.stderr
    assert "\n  try: " in done.stderr
    assert not list(tmp_path.iterdir())


def test_results_never_go_where_the_dumps_are(tmp_path: Path) -> None:
    batch(tmp_path, tmp_path, code=2)
    assert not list(tmp_path.iterdir())

"""A bucket of a real S3 server (moto's, as a process of its own): analyses and batches in place."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from mftriage.fleet.source import open_source
from tests.craft import FIXTURES, mftriage

LOG = b"[    1.0] Linux version 7.3.4\n[    9.0] Memory failure: 0x1: recovery action for dirty LRU page: Recovered\n"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """An empty bucket, and the environment that leads there."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        **dict.fromkeys(KEYS, "test"),
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"))
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/crash", method="PUT"))
    return S3Store("crash", client_options={"allow_http": True})


def test_one_dump(store: S3Store, x86_elf: Path) -> None:
    obstore.put(store, "2026/host 1/vmcore", x86_elf)
    there = mftriage("analyze", "s3://crash/2026/host 1/vmcore", "-f", "json")
    here = mftriage("analyze", str(x86_elf), "-f", "json")
    assert there.returncode == here.returncode == 0, there.stderr
    found, wanted = json.loads(there.stdout), json.loads(here.stdout)
    assert found["dump"].pop("path") == "s3://crash/2026/host 1/vmcore"
    wanted["dump"].pop("path")
    assert found == wanted


def test_a_capsule_is_cut_of_it(store: S3Store, x86_elf: Path, tmp_path: Path) -> None:
    obstore.put(store, "vmcore", x86_elf)
    capsule = tmp_path / "capsule.elf.zst"
    cut = mftriage("capsule", "s3://crash/vmcore", "-o", str(capsule), "--lean")
    assert cut.returncode == 0, cut.stderr
    assert "unrecoverable-panic" in mftriage("analyze", str(capsule)).stdout


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://crash/nothing", "there is no object"),
        ("s3://crash", "names a bucket or a folder"),
        ("s3://no-such-bucket/vmcore", "there is no object"),
        ("s3://crash/vmcore?versionId=1", "can't be read in place"),
    ],
)
def test_what_is_not_there(store: S3Store, url: str, words: str) -> None:
    ended = mftriage("analyze", url)
    assert ended.returncode in (2, 3) and words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_large_bucket_is_listed_by_pages(store: S3Store) -> None:
    for number in range(1203):
        obstore.put(store, f"logs/{number:04}.txt", b"x")
    obstore.put(store, "elsewhere.txt", b"x")
    entries = list(open_source("s3://crash/logs").list())
    assert len(entries) == 1203
    assert {entry.name for entry in entries} == {f"{n:04}.txt" for n in range(1203)}
    assert all(entry.size == 1 and "etag" in entry.identity for entry in entries)


def test_a_batch(store: S3Store, tmp_path: Path) -> None:
    """All of it, what changed, and what is no dump."""
    for name in ("x86_64-far-flip", "x86_64-anon"):
        obstore.put(store, f"c/{name}.elf.zst", FIXTURES / name / "capsule.elf.zst")
    obstore.put(store, "c/host 2/dmesg.txt", LOG)
    obstore.put(store, "c/vmcore.broken", b"KDUMP   nothing more")
    obstore.put(store, "c/README.md", b"# Dumps")
    out = tmp_path / "out"
    first = mftriage("batch", "s3://crash/c", "--out", str(out), "--jobs", "2")
    assert first.returncode == 4, first.stderr
    records = [json.loads(p.read_text()) for p in out.glob("results/*/*.json")]
    assert {(r["source"], r["status"]) for r in records} == {
        ("x86_64-far-flip.elf.zst", "ok"),
        ("x86_64-anon.elf.zst", "ok"),
        ("host 2/dmesg.txt", "ok"),
        ("vmcore.broken", "failed"),
        ("README.md", "skipped"),
    }
    before = {p: p.read_bytes() for p in out.glob("results/*/*.json")}
    second = mftriage("batch", "s3://crash/c", "--out", str(out), "--retries", "0")
    assert second.returncode == 4
    assert {p: p.read_bytes() for p in out.glob("results/*/*.json")} == before
    obstore.put(store, "c/host 2/dmesg.txt", LOG * 2)
    third = mftriage("batch", "s3://crash/c", "--out", str(out), "--retries", "0")
    assert third.returncode == 4
    after = {p: p.read_bytes() for p in out.glob("results/*/*.json")}
    assert len(after) == len(before) and sum(after[p] != before.get(p) for p in after) == 1


def test_a_bucket_that_is_not_there(store: S3Store, tmp_path: Path) -> None:
    ended = mftriage("batch", "s3://no-such-bucket/x", "--out", str(tmp_path / "out"))
    assert ended.returncode == 2 and "can't list" in ended.stderr
    ended = mftriage("batch", "http://127.0.0.1:1/x", "--out", str(tmp_path / "out2"))
    assert ended.returncode == 2 and "does not list" in ended.stderr

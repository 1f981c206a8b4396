"""What is listed of a folder, however it is laid out."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mftriage.errors import UsageError
from mftriage.fleet.source import Entry, open_source


def listed(path: Path) -> dict[str, Entry]:
    entries = list(open_source(str(path)).list())
    found = {entry.name: entry for entry in entries}
    assert len(found) == len(entries)
    return found


def write(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_files_by_their_path_in_the_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "a" / "b" / "vmcore")
    write(tmp_path / "other", b"")
    found = listed(tmp_path)
    assert set(found) == {"a/b/vmcore", "other"}
    entry = found["a/b/vmcore"]
    assert (entry.size, entry.version, entry.modified) == (
        4,
        file.stat().st_mtime_ns,
        file.stat().st_mtime,
    )
    assert entry.identity == {"size_bytes": 4, "mtime_ns": file.stat().st_mtime_ns}
    assert entry.problem is None and entry.other is None


def test_a_single_file(tmp_path: Path) -> None:
    file = write(tmp_path / "vmcore")
    write(tmp_path / "other")
    source = open_source(str(file))
    assert [entry.name for entry in source.list()] == ["vmcore"]
    with source.local("vmcore") as path:
        assert path == file.resolve()


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    write(tmp_path / "a\udcff\n\x1b[31m")
    found = listed(tmp_path)
    assert list(found) == ["a\udcff\n\x1b[31m"]


def test_what_is_no_file_is_a_problem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "again").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        problems = {name: entry.problem for name, entry in listed(tmp_path).items()}
    assert problems == {
        "pipe": "a named pipe, not a file",
        "device": "a device, not a file",
        "again": "a device, not a file",
        "socket": "a socket, not a file",
    }


def test_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "z" / "vmcore")
    elsewhere = write(tmp_path / "elsewhere" / "vmcore").parent
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "gone").symlink_to("nowhere")
    (root / "latest").symlink_to("z/vmcore")
    (root / "latest-folder").symlink_to("z")
    (root / "z" / "up").symlink_to("..")
    (root / "more").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (elsewhere / "self").symlink_to(".")
    found = listed(root)
    assert {name: e.problem for name, e in found.items() if e.problem} == {
        "a": "a link that leads nowhere: Too many levels of symbolic links",
        "b": "a link that leads nowhere: Too many levels of symbolic links",
        "gone": "a link that leads nowhere: No such file or directory",
        "z/up": "a link back to a folder that it lies in",
        "more/back": "a link back to a folder that it lies in",
        "more/self": "a link back to a folder that it lies in",
    }
    assert {name: e.other for name, e in found.items() if e.other} == {
        "latest": "a link to z/vmcore",
        "latest-folder": "a link to z/",
    }
    assert {name for name, e in found.items() if not e.problem and not e.other} == {
        "z/vmcore",
        "more/vmcore",
    }


def test_results_of_a_batch_are_no_dumps(tmp_path: Path) -> None:
    write(tmp_path / "vmcore")
    write(tmp_path / "out" / "fleet.json")
    write(tmp_path / "out" / "results" / "00" / "00.json")
    write(tmp_path / "out" / "capsules" / "00" / "00.elf.zst")
    assert set(listed(tmp_path)) == {"vmcore"}


def test_what_can_not_be_a_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such kind of source"):
        open_source("ftp://bucket/dumps")
    with pytest.raises(UsageError, match="No such file"):
        open_source(str(tmp_path / "nowhere"))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError):
        open_source(str(tmp_path / "loop"))

"""From what a person types to the file to open."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mftriage.dump import open_dump
from mftriage.errors import DumpError
from mftriage.locate import locate
from tests import craft

DUMP = craft.elf_core({0x1000: bytes(4096)}, craft.note("VMCOREINFO", 0, craft.X86_INFO))


def refusal(path: Path) -> DumpError:
    with pytest.raises(DumpError) as caught:
        open_dump(path).close()
    assert caught.value.remedy
    return caught.value


def write(path: Path, data: bytes = DUMP) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_is_itself(tmp_path: Path) -> None:
    dump = write(tmp_path / "any name")
    assert locate(dump).dump == dump


@pytest.mark.parametrize(
    ("name", "log"),
    [
        ("vmcore", "vmcore-dmesg.txt"),
        ("vmcore.flat", "vmcore-dmesg.txt"),
        ("dump.202611240312", "dmesg.202611240312"),  # Debian's kdump-tools
        ("vmcore.zst", "dmesg.txt"),
        ("host1.vmcore", "vmcore-dmesg-incomplete.txt"),
    ],
)
def test_folder_of_kdump(tmp_path: Path, name: str, log: str) -> None:
    dump = write(tmp_path / name)
    text = write(tmp_path / log, b"[    0.0] hello\n")
    located = locate(tmp_path)
    assert (located.dump, located.log) == (dump, text)


def test_log_beside_a_file_named_vmcore(tmp_path: Path) -> None:
    dump = write(tmp_path / "vmcore")
    text = write(tmp_path / "vmcore-dmesg.txt", b"")
    assert locate(dump).log == text


def test_log_of_the_same_date(tmp_path: Path) -> None:
    dump = write(tmp_path / "dump.202611240312")
    write(tmp_path / "dmesg.202611230000", b"")
    assert locate(dump).log is None
    text = write(tmp_path / "dmesg.202611240312", b"")
    assert locate(dump).log == text


def test_log_beside_any_other_file_may_be_of_another_crash(tmp_path: Path) -> None:
    dump = write(tmp_path / "case-17.elf")
    write(tmp_path / "vmcore-dmesg.txt", b"")
    assert locate(dump).log is None


def test_the_full_vmcore_comes_before_others(tmp_path: Path) -> None:
    for name in ("a.vmcore", "vmcore.1", "vmcore"):
        write(tmp_path / name)
    assert locate(tmp_path).dump.name == "vmcore"


def test_reports_beside_a_dump_are_no_dumps(tmp_path: Path) -> None:
    for name in ("vmcore.json", "vmcore.html", "vmcore.txt", "vmcore.md"):
        write(tmp_path / name, b"report")
    dump = write(tmp_path / "vmcore.zst")
    assert locate(tmp_path).dump == dump


def test_folder_without_a_dump(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", b"hello")
    assert "no vmcore in the folder" in refusal(tmp_path).message


def test_folder_of_folders_names_the_newest(tmp_path: Path) -> None:
    for date in ("2026-11-20-01:02", "2026-11-24-03:12", "2026-11-23-23:59"):
        write(tmp_path / date / "vmcore")
    assert "2026-11-24-03:12" in refusal(tmp_path).remedy


def test_log_alone_is_no_dump(tmp_path: Path) -> None:
    write(tmp_path / "vmcore-dmesg.txt", b"[    0.0] hello\n")
    assert "no vmcore" in refusal(tmp_path).message


def test_missing(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "missing").message


def test_name_that_is_too_long(tmp_path: Path) -> None:
    assert refusal(tmp_path / ("x" * 300)).exit_code == 3


def test_below_a_file(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "file") / "vmcore").exit_code == 3


def test_symlink_to_a_dump(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(write(tmp_path / "d" / "vmcore").parent)
    assert locate(link).dump.name == "vmcore"


@pytest.mark.parametrize("in_folder", [False, True])
def test_symlink_loop(tmp_path: Path, in_folder: bool) -> None:
    (tmp_path / "vmcore").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "vmcore")
    assert refusal(tmp_path if in_folder else tmp_path / "vmcore").exit_code == 3


def test_dangling_symlink(tmp_path: Path) -> None:
    (tmp_path / "vmcore").symlink_to(tmp_path / "gone")
    assert refusal(tmp_path / "vmcore").exit_code == 3
    assert refusal(tmp_path).exit_code == 3


@pytest.mark.parametrize("in_folder", [False, True])
def test_fifo_is_never_waited_for(tmp_path: Path, in_folder: bool) -> None:
    os.mkfifo(tmp_path / "vmcore")
    assert refusal(tmp_path if in_folder else tmp_path / "vmcore").exit_code == 3


def test_socket_and_device(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "neither a file nor a folder" in refusal(tmp_path / "s").message
    assert "neither a file nor a folder" in refusal(Path("/dev/zero")).message


def test_fifo_beside_a_dump_is_no_log(tmp_path: Path) -> None:
    write(tmp_path / "vmcore")
    os.mkfifo(tmp_path / "vmcore-dmesg.txt")
    assert locate(tmp_path).log is None


def test_odd_names(tmp_path: Path) -> None:
    """Globs and escapes in a name are just its letters."""
    folder = tmp_path / "[x]*?\x1b[31m\udcff"
    write(folder / "vmcore")
    assert locate(folder).dump.parent == folder


def test_an_empty_vmcore(tmp_path: Path) -> None:
    """kdump leaves vmcore-incomplete, or an empty file, when the disk was full."""
    assert "empty" in refusal(write(tmp_path / "vmcore", b"")).message


def test_vmcore_incomplete_is_named(tmp_path: Path) -> None:
    """What makedumpfile had no time to finish is still worth a look."""
    dump = write(tmp_path / "vmcore-incomplete")
    assert locate(tmp_path).dump == dump

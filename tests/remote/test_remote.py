"""Dumps that are read in place: the right answer of few bytes, and a clear end where the server fails."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mftriage import remote
from mftriage.codec import to_dict
from mftriage.dump.capsule import Contents, Note, write_capsule
from mftriage.dump.header import Header, read_header
from mftriage.errors import DumpError, MftriageError, UsageError
from mftriage.files import LocalFile, is_url
from mftriage.remote import open_remote, shown
from mftriage.triage import analyze
from tests.remote.server import Handler, Shelf, serving

PAGE = 4096


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a minute for a test."""
    monkeypatch.setattr(remote, "_PATIENCE", 3.0)
    monkeypatch.setattr(remote, "_REQUEST", 1.0)
    monkeypatch.setattr(remote, "_TRIES", 3)


@pytest.fixture(scope="module")
def header(x86_elf: Path) -> Header:
    with x86_elf.open("rb") as file:
        return read_header(LocalFile(file))


def pages_of(path: Path, header: Header) -> dict[int, bytes]:
    pages = {}
    with path.open("rb") as file:
        for segment in header.segments:
            for at in range(0, segment.size, PAGE):
                file.seek(segment.offset + at)
                pages[(segment.physical_address + at) // PAGE] = file.read(PAGE)
    return pages


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory, x86_elf: Path, header: Header) -> Path:
    """A kdump-compressed dump of 20 MB: a real one's pages, and beside them pages that nothing asks for."""
    pages = pages_of(x86_elf, header)
    noise = random.Random(7)
    free = iter(pfn for pfn in range(max(pages) + 8192) if pfn not in pages)
    for _ in range(4400):
        pages[next(free)] = noise.randbytes(PAGE)
    path = tmp_path_factory.mktemp("filtered") / "vmcore"
    notes = tuple(Note(n.name, n.type, n.desc) for n in header.notes if n.name != "MFTRIAGE")
    info = header.vmcoreinfo
    write_capsule(
        path, Contents("x86_64", PAGE, notes, b"".join(n.desc for n in notes if n.name == "VMCOREINFO"), info.release or "", pages)
    )  # fmt: skip
    return path


@pytest.fixture
def shelf(x86_elf: Path, filtered: Path) -> Iterator[Shelf]:
    files = {"/crash/vmcore": x86_elf, "/crash/filtered": filtered}
    with serving(Shelf(files)) as served:
        yield served


def answer(path: Path | str) -> dict[str, object]:
    analysis = analyze(path)
    analysis.close()
    dump = replace(analysis.triage.dump, path="")
    return to_dict(replace(analysis.triage, dump=dump))


def test_the_same_answer_as_of_the_file(shelf: Shelf, x86_elf: Path, filtered: Path) -> None:
    assert answer(f"{shelf.url}/crash/vmcore") == answer(x86_elf)
    assert answer(f"{shelf.url}/crash/filtered") == answer(filtered)


def test_a_third_of_a_filtered_dump_is_read(shelf: Shelf, filtered: Path) -> None:
    size = filtered.stat().st_size
    assert 15 << 20 < size < 30 << 20
    answer(f"{shelf.url}/crash/filtered")
    assert 0 < shelf.sent <= 0.35 * size


def test_little_of_a_large_dump_is_read(tmp_path: Path, x86_elf: Path, header: Header) -> None:
    """A host's memory as it is, most of it a hole in the file here."""
    path = tmp_path / "large"
    size = 1 << 30
    at = 0x10000
    with x86_elf.open("rb") as whole, path.open("wb") as large:
        head = bytearray(whole.read(header.segments[0].offset))
        phoff = int.from_bytes(head[32:40], "little")
        for index in range(int.from_bytes(head[56:58], "little")):
            entry = phoff + 56 * index
            if head[entry] != 1:
                continue
            paddr = int.from_bytes(head[entry + 24 : entry + 32], "little")
            offset = int.from_bytes(head[entry + 8 : entry + 16], "little")
            length = int.from_bytes(head[entry + 32 : entry + 40], "little")
            whole.seek(offset)
            place = (len(head) + 0xFFFF & ~0xFFFF) + paddr  # as in a dump of all memory, by address
            head[entry + 8 : entry + 16] = place.to_bytes(8, "little")
            large.seek(place)
            large.write(whole.read(length))
            at = max(at, place + length)
        large.seek(0)
        large.write(head)
        large.truncate(max(size, at))
    with serving(Shelf({"/vmcore": path}, delay=0.03)) as served:
        started = time.monotonic()
        assert answer(f"{served.url}/vmcore")["verdict"] == answer(x86_elf)["verdict"]
        assert time.monotonic() - started < 16  # 8 s on a machine that does nothing else
        assert served.sent <= 0.015 * size
        assert served.gets < 160


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 900_000), st.integers(0, 400_000)), max_size=12))
def test_reads_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("reads") / "file"
    path.write_bytes(random.Random(1).randbytes(700_001))
    with serving(Shelf({"/f": path})) as served, path.open("rb") as file:
        here, there = LocalFile(file), open_remote(f"{served.url}/f")
        for offset, size in reads:
            assert there.pread(size, offset) == here.pread(size, offset)
        assert there.stream().read() == path.read_bytes()


def test_a_log(tmp_path: Path, shelf: Shelf) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text("[    1.0] Linux version 7.3.4\n[    9.0] Memory failure: 0x1: recovery action for dirty LRU page: Recovered\n" * 3)  # fmt: skip
    shelf.files["/log"] = log
    assert answer(f"{shelf.url}/log") == answer(log)


def test_a_packed_dump(tmp_path: Path, shelf: Shelf) -> None:
    from tests.craft import FIXTURES

    packed = FIXTURES / "x86_64-far-flip" / "capsule.elf.zst"
    shelf.files["/packed"] = packed
    assert answer(f"{shelf.url}/packed") == answer(packed)


# servers that fail


def times(
    count: int, fault: Callable[[Handler, int, int], bool]
) -> Callable[[Handler, int, int], bool]:
    """The fault on each fifth GET, ``count`` times in a row."""

    def faulty(handler: Handler, start: int, end: int) -> bool:
        return handler.shelf.gets % 5 < count and fault(handler, start, end)

    return faulty


def status(code: int) -> Callable[[Handler, int, int], bool]:
    def fault(handler: Handler, start: int, end: int) -> bool:
        handler.head(code, 0)
        return True

    return fault


def truncated(handler: Handler, start: int, end: int) -> bool:
    """The connection ends in the middle."""
    data = handler.shelf.files[handler.path].read_bytes()
    handler.head(206, end - start, start, len(data))
    handler.wfile.write(data[start : (start + end) // 2])
    handler.close_connection = True
    return True


def short(handler: Handler, start: int, end: int) -> bool:
    """Less than was asked for, and rightly labelled."""
    size = handler.shelf.files[handler.path].stat().st_size
    handler.head(206, (end - start) // 2, start, size)
    handler.wfile.write(bytes((end - start) // 2))
    return True


def elsewhere(handler: Handler, start: int, end: int) -> bool:
    """As much as was asked for, from another place."""
    size = handler.shelf.files[handler.path].stat().st_size
    at = start - 1 if start else start + 1
    if at + end - start > size:
        return False
    handler.head(206, end - start, at, size)
    handler.wfile.write(bytes(end - start))
    return True


def slow(handler: Handler, start: int, end: int) -> bool:
    time.sleep(1.5)
    return False


FAULTS = {
    "500": status(500),
    "503": status(503),
    "429": status(429),
    "truncated": truncated,
    "short": short,
    "elsewhere": elsewhere,
}


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "429"])
def test_after_a_fault_now_and_then_the_answer_is_right(
    name: str, shelf: Shelf, filtered: Path
) -> None:
    shelf.fault = times(1, FAULTS[name])
    assert answer(f"{shelf.url}/crash/filtered") == answer(filtered)


@pytest.mark.parametrize("name", [*FAULTS, "slow"])
def test_a_server_that_always_fails_is_told(name: str, shelf: Shelf) -> None:
    shelf.fault = {**FAULTS, "slow": slow}[name]
    started = time.monotonic()
    with pytest.raises(DumpError) as caught:
        analyze(f"{shelf.url}/crash/vmcore")
    assert time.monotonic() - started < 20
    assert caught.value.remedy and "\n" not in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", [*FAULTS])
@pytest.mark.parametrize("after", [3, 12, 25])
def test_a_server_that_fails_on_the_way_gives_no_result(
    name: str, after: int, shelf: Shelf
) -> None:
    """Not one of half a dump: what can't be read is not what is not there."""

    def later(handler: Handler, start: int, end: int) -> bool:
        return handler.shelf.gets > after and FAULTS[name](handler, start, end)

    shelf.fault = later
    with pytest.raises(DumpError):
        analyze(f"{shelf.url}/crash/filtered")


def test_an_object_that_changes_is_told(shelf: Shelf) -> None:
    def change(handler: Handler, start: int, end: int) -> bool:
        if handler.shelf.gets > 5:
            handler.shelf.etag = '"two"'
        return False

    shelf.fault = change
    with pytest.raises(DumpError, match="changed while it was read"):
        analyze(f"{shelf.url}/crash/vmcore")


def test_an_object_that_goes_away_is_told(shelf: Shelf) -> None:
    def go(handler: Handler, start: int, end: int) -> bool:
        return handler.shelf.gets > 5 and status(404)(handler, start, end)

    shelf.fault = go
    with pytest.raises(DumpError, match="there is no object"):
        analyze(f"{shelf.url}/crash/vmcore")


@pytest.mark.parametrize(("code", "words"), [(403, "access"), (401, "access"), (404, "no object")])
def test_what_the_server_refuses_is_asked_once(code: int, words: str, shelf: Shelf) -> None:
    shelf.fault = status(code)
    with pytest.raises(DumpError, match=words):
        analyze(f"{shelf.url}/crash/vmcore")
    assert shelf.gets == 1


def test_a_server_without_ranges_is_told(shelf: Shelf) -> None:
    shelf.ranges = False
    with pytest.raises(DumpError, match="parts of a file"):
        analyze(f"{shelf.url}/crash/vmcore")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/vmcore",
        "http://no.such.host.invalid/vmcore",
        "s3://bucket/",
        "https://host/vmcore?X-Amz-Signature=abc",
        "http://user:secret@127.0.0.1:1/vmcore",
    ],
)
def test_urls_that_lead_nowhere(url: str) -> None:
    with pytest.raises(MftriageError) as caught:
        analyze(url)
    assert caught.value.remedy
    assert "secret" not in caught.value.message and "Signature" not in caught.value.message


def test_what_is_a_url() -> None:
    assert is_url("s3://bucket/key") and is_url("HTTPS://host/x")
    assert not any(map(is_url, ("vmcore", "/var/crash", "file:///x", "s3:/x", "s3://", "C:\\x")))
    assert shown("http://u:p@h/x\x1b") == "http://h/x\\x1b"
    with pytest.raises(UsageError):
        open_remote("s3://bucket")


class Answer:
    """What a store gives: these bytes, said to be of that range."""

    meta: ClassVar[dict[str, object]] = {"size": 10, "e_tag": "x", "last_modified": datetime.now()}

    def __init__(self, data: bytes, span: tuple[int, int]) -> None:
        self._data, self.range = data, span

    def bytes(self) -> bytes:
        return self._data


@pytest.mark.parametrize("wrong", [Answer(b"01234", (0, 10)), Answer(b"0123456789", (1, 11))])
def test_each_answer_is_held_against_what_was_asked(wrong: Answer) -> None:
    """Whatever the library that fetches it lets pass."""
    answers = [wrong, Answer(b"0123456789", (0, 10))]

    class Store:
        def get(self, name: str, options: object) -> Answer:
            return answers.pop(0) if len(answers) > 1 else answers[0]

    meta = remote._meta(Answer.meta)
    file = remote.RangeFile(Store(), "name", "s3://b/name", meta)  # type: ignore[arg-type]
    assert file.pread(10, 0) == b"0123456789"
    answers[:] = [wrong]
    file = remote.RangeFile(Store(), "name", "s3://b/name", meta)  # type: ignore[arg-type]
    with pytest.raises(DumpError, match="gives less"):
        file.pread(10, 0)
    assert file.failure is not None

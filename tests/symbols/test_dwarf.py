"""The dwarf tier, on small ELF files that pass for a vmlinux, and on a real debuginfod."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest
from drgn import Program, host_platform

from mftriage.dump.vmcoreinfo import VmcoreInfo
from mftriage.errors import SymbolsError
from mftriage.symbols import dwarf

RELEASE = "7.3.4-test-amd64"
OURS = "00112233445566778899aabbccddeeff01234567"
OTHER = "ffeeddccbbaa99887766554433221100fedcba98"
KASLR = 0x9400000
STEXT = 0x1000000

SOURCE = f"""
struct page {{ unsigned long flags; void *mapping; }};
struct page a_page;
const char linux_banner[] = "Linux version {RELEASE} (test) #1";
void _stext(void) {{ a_page.mapping = (void *)linux_banner; }}
"""


def compiled(path: Path, build_id: str | None, source: str = SOURCE, debug: bool = True) -> Path:
    """Something that drgn takes for a vmlinux."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *("gcc", "-x", "c", "-", "-o", path, "-g" if debug else "-g0", "-O1"),
            *("-nostdlib", "-static", "-no-pie", "-fno-asynchronous-unwind-tables"),
            f"-Wl,--build-id={f'0x{build_id}' if build_id else 'none'}",
            *("-Wl,-e,_stext", f"-Wl,-Ttext={STEXT:#x}"),
        ],
        input=source.encode(),
        check=True,
    )
    return path


def vmcoreinfo(build_id: str | None = OURS, release: str = RELEASE) -> VmcoreInfo:
    """What a kernel at another place than it was linked for says of itself."""
    lines = [
        f"OSRELEASE={release}",
        *([f"BUILD-ID={build_id}"] if build_id else []),
        "PAGESIZE=4096",
        f"SYMBOL(swapper_pg_dir)={STEXT + KASLR:x}",
        f"SYMBOL(_stext)={STEXT + KASLR:x}",
        f"KERNELOFFSET={KASLR:x}",
    ]
    return VmcoreInfo("\n".join(lines).encode() + b"\n")


def load(wanted: Path | str, info: VmcoreInfo | None = None) -> tuple[Path, Program]:
    """``dwarf.load`` into a fresh Program."""
    info = info or vmcoreinfo()
    program = Program(host_platform)
    program.set_linux_kernel_custom(info.raw, False)
    return dwarf.load(program, info, wanted), program


def refusal(wanted: Path | str, info: VmcoreInfo | None = None) -> str:
    """The sentence that says why ``wanted`` won't do."""
    with pytest.raises(SymbolsError) as caught:
        load(wanted, info)
    assert caught.value.remedy
    return caught.value.message


@pytest.fixture(scope="session")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This kernel's vmlinux."""
    return compiled(tmp_path_factory.mktemp("ours") / "vmlinux", OURS)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vmlinux of the same release, built anew."""
    return compiled(tmp_path_factory.mktemp("other") / "vmlinux", OTHER)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root for the standard places, and a cache, of the test's own."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(dwarf, "_ROOT", root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return root


def put(source: Path, target: Path) -> Path:
    """A copy of ``source`` at ``target``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))


# A file that was named


def test_names_and_types_are_where_kaslr_put_them(vmlinux: Path) -> None:
    path, program = load(vmlinux)
    assert path == vmlinux
    assert program.symbol("_stext").address == STEXT + KASLR
    assert program.type("struct page").has_member("mapping")
    assert program.source_location(STEXT + KASLR)[0].line > 0


def test_another_build_is_refused_by_both_build_ids(other: Path) -> None:
    message = refusal(other)
    assert OTHER[:12] in message
    assert OURS[:12] in message
    assert RELEASE in message


def test_a_vmlinux_without_build_id_is_refused(tmp_path: Path) -> None:
    assert "without a build ID" in refusal(compiled(tmp_path / "vmlinux", None))


def test_a_stripped_vmlinux(tmp_path: Path) -> None:
    assert "has no debug info" in refusal(compiled(tmp_path / "vmlinux", OURS, debug=False))


def test_debug_info_that_is_not_of_a_kernel(tmp_path: Path) -> None:
    path = compiled(tmp_path / "vmlinux", OURS, source="void _stext(void) {}")
    assert "not that of a kernel" in refusal(path)


def test_damaged_debug_info(tmp_path: Path, vmlinux: Path) -> None:
    sections = subprocess.run(
        ["readelf", "-SW", vmlinux], capture_output=True, text=True, check=True
    ).stdout
    line = next(li for li in sections.splitlines() if " .debug_info " in li)
    offset, size = (int(n, 16) for n in line.split("PROGBITS")[1].split()[1:3])
    data = bytearray(vmlinux.read_bytes())
    data[offset : offset + size] = b"\xff" * size
    path = tmp_path / "vmlinux"
    path.write_bytes(data)
    assert "drgn can't read the debug info" in refusal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an ELF file"),
        (b"plain text", "not an ELF file"),
        (b"MZ\0\0", "vmlinuz"),
        (b"\x1f\x8b\x08\0", "vmlinuz"),
        (b"\x7fELF\x01\x01" + bytes(100), "64-bit"),
        (b"\x7fELF\x02\x01", "64-bit"),
        (b"\x7fELF\x02\x01" + bytes(100), "cut short"),
        (b"\x7fELF\x02\x01" + b"\xff" * 100, "cut short"),
    ],
)
def test_what_is_no_vmlinux(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    assert words in refusal(path)


def test_every_cut_of_a_vmlinux_is_refused_in_words(tmp_path: Path, vmlinux: Path) -> None:
    whole = vmlinux.read_bytes()
    path = tmp_path / "vmlinux"
    for length in range(0, len(whole), 211):
        path.write_bytes(whole[:length])
        refusal(path)


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "missing").startswith("there is no")
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refusal(tmp_path / "pipe")
    assert "can't read" in refusal(tmp_path / ("x" * 300))


def test_no_permission(tmp_path: Path, vmlinux: Path) -> None:
    path = put(vmlinux, tmp_path / "closed" / "vmlinux")
    path.chmod(0)
    path.parent.chmod(0)
    euid = os.geteuid()
    if euid == 0:  # whom no mode stops
        os.seteuid(65534)
    try:
        of_file, of_folder = refusal(path), refusal(tmp_path / "closed")
    finally:
        os.seteuid(euid)
        path.parent.chmod(0o700)
    assert "no permission" in of_file
    assert "ermission" in of_folder


# Kernels before 5.9: no build ID to compare


def test_without_build_id_the_banner_decides(vmlinux: Path) -> None:
    old = vmcoreinfo(build_id=None)
    assert load(vmlinux, old)[0] == vmlinux
    message = refusal(vmlinux, vmcoreinfo(build_id=None, release="5.4.0"))
    assert "can't be verified" in message
    assert "5.4.0" in message


# A folder


@pytest.mark.parametrize(
    "layout",
    [
        "vmlinux",
        f"vmlinux-{RELEASE}",
        f"some/where/deep/vmlinux-{RELEASE}",
        f"usr/lib/debug/boot/vmlinux-{RELEASE}",
        f"usr/lib/debug/lib/modules/{RELEASE}/vmlinux",
        f"usr/lib/debug/.build-id/{OURS[:2]}/{OURS[2:]}.debug",
        f".build-id/{OURS[:2]}/{OURS[2:]}.debug",
    ],
)
def test_a_folder_is_searched(tmp_path: Path, vmlinux: Path, other: Path, layout: str) -> None:
    folder = tmp_path / "debug"
    put(other, folder / "a" / "vmlinux-of-another-build")
    (folder / "vmlinux.h").write_text("struct page;")
    expected = put(vmlinux, folder / layout)
    assert load(folder)[0] == expected


def test_a_folder_without_this_kernel(tmp_path: Path, other: Path) -> None:
    folder = tmp_path / "debug"
    folder.mkdir()
    assert refusal(folder).startswith("there is no vmlinux in")
    put(other, folder / "vmlinux-1")
    assert OTHER[:12] in refusal(folder)
    put(other, folder / "vmlinux-2")
    assert refusal(folder).startswith("none of the 2 vmlinux files in")
    assert OURS[:12] in refusal(folder)


def test_a_folder_with_only_the_stripped_one_says_so(tmp_path: Path, other: Path) -> None:
    put(other, tmp_path / "debug" / "vmlinux-1")
    compiled(tmp_path / "debug" / "vmlinux-2", OURS, debug=False)
    assert "has no debug info" in refusal(tmp_path / "debug")


def test_a_search_ends(tmp_path: Path, vmlinux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(vmlinux, tmp_path.joinpath("debug", *"123456789", "vmlinux"))
    assert "there is no vmlinux" in refusal(tmp_path / "debug")
    put(vmlinux, tmp_path / "debug" / "1" / "vmlinux")
    load(tmp_path / "debug")
    monkeypatch.setattr(dwarf, "_MAX_FOLDERS", 1)
    assert "there is no vmlinux" in refusal(tmp_path / "debug")


# auto


def test_auto_looks_in_the_standard_places(elsewhere: Path, vmlinux: Path) -> None:
    assert not dwarf.find_quietly(vmcoreinfo())
    expected = put(vmlinux, elsewhere / f"usr/lib/debug/boot/vmlinux-{RELEASE}")
    assert dwarf.find_quietly(vmcoreinfo())
    assert load("auto")[0] == expected


def test_auto_passes_over_another_build(elsewhere: Path, vmlinux: Path, other: Path) -> None:
    put(other, elsewhere / f"usr/lib/debug/boot/vmlinux-{RELEASE}")
    assert not dwarf.find_quietly(vmcoreinfo())
    expected = put(vmlinux, elsewhere / f"lib/modules/{RELEASE}/build/vmlinux")
    assert load("auto")[0] == expected


def test_auto_without_a_server_to_ask(elsewhere: Path) -> None:
    message = refusal("auto")
    assert "DEBUGINFOD_URLS" in message
    assert OURS[:12] in message
    compiled(elsewhere / f"boot/vmlinux-{RELEASE}", OURS, debug=False)
    assert "has no debug info" in refusal("auto")


def test_a_release_can_not_lead_out_of_the_standard_places(elsewhere: Path, vmlinux: Path) -> None:
    (elsewhere / "lib/modules").mkdir(parents=True)
    put(vmlinux, elsewhere / "lib/outside/vmlinux")
    assert not dwarf.find_quietly(vmcoreinfo(release="../outside"))


# debuginfod: what can go wrong, from a server that does it


@contextmanager
def answering(status: int, body: bytes, length: int | None = None) -> Iterator[str]:
    """A server that gives the same answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def left_behind(tmp_path: Path) -> list[str]:
    """The files in the cache."""
    return [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    ("status", "body", "length", "words"),
    [
        (404, b"not found", None, "it does not have it"),
        (503, b"", None, "HTTP 503"),
        (200, b"<html>log in first</html>", None, "not this kernel's debug info"),
        (200, b"\x7fELF", 4096, "the connection ended after 4 of 4096 bytes"),
    ],
)
def test_what_a_server_may_send(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    length: int | None,
    words: str,
) -> None:
    with answering(status, body, length) as url:
        monkeypatch.setenv("DEBUGINFOD_URLS", url)
        message = refusal("auto")
    assert words in message
    assert url in message
    assert left_behind(tmp_path) == []


def test_another_build_from_a_server_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Path, vmlinux: Path
) -> None:
    with answering(200, other.read_bytes()) as bad, answering(200, vmlinux.read_bytes()) as good:
        monkeypatch.setenv("DEBUGINFOD_URLS", bad)
        assert "not this kernel's debug info" in refusal("auto")
        assert left_behind(tmp_path) == []
        monkeypatch.setenv("DEBUGINFOD_URLS", f"{bad} {good}")
        load("auto")
    assert left_behind(tmp_path) == [OURS]


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and not listening
        monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert "it can't be reached: Connection refused" in refusal("auto")


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUGINFOD_TIMEOUT", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert "no answer in time" in refusal("auto")


def test_debuginfod_is_not_asked_without_a_build_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUGINFOD_URLS", "http://127.0.0.1:1")
    assert "no build ID" in refusal("auto", vmcoreinfo(build_id=None))


# debuginfod: the real one


@contextmanager
def debuginfod(folder: Path, home: Path, build_id: str) -> Iterator[str]:
    """Debian's debuginfod, serving the ELF files in ``folder``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    home.mkdir()
    command = ["debuginfod", "-F", "-d", ":memory:", "-p", str(port), "--disable-source-scan"]
    with subprocess.Popen(
        [*command, folder],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            wait_for(f"{url}/buildid/{build_id}/debuginfo", server)
            yield url
        finally:
            server.terminate()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until the server has scanned its folder."""
    end = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (URLError, ConnectionError) as error:
            assert server.poll() is None, "debuginfod ended"
            assert time.monotonic() < end, f"debuginfod does not serve {url}: {error}"
            time.sleep(0.1)


@pytest.mark.debuginfod
@pytest.mark.skipif(shutil.which("debuginfod") is None, reason="debuginfod is not installed")
def test_auto_fetches_from_debuginfod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vmlinux: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    info = vmcoreinfo()
    with debuginfod(vmlinux.parent, tmp_path / "home", OURS) as url:
        monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:1 {url}/")
        program = Program(host_platform)
        program.set_linux_kernel_custom(info.raw, False)
        path = dwarf.load(program, info, "auto", lambda *step: seen.append(step))
        assert "it does not have it" in refusal("auto", vmcoreinfo(build_id=OTHER))
    size = vmlinux.stat().st_size
    assert program.symbol("_stext").address == STEXT + KASLR
    assert path.read_bytes() == vmlinux.read_bytes()
    assert seen[-1] == ("debuginfod", size, size)
    # The server is gone; the file is not.
    assert dwarf.find_quietly(info)
    assert load("auto")[0] == path

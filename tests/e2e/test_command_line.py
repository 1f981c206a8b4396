"""The command line as a person meets it: exit codes, sentences, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard

from tests import craft
from tests.craft import FIXTURES, HIT, ROOT, mftriage

X86 = FIXTURES / "x86_64-dentry" / "capsule.elf.zst"
ESCAPES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One sentence, what to type next, nothing on stdout, the documented exit code."""
    assert done.returncode == code, (done.returncode, done.stderr)
    lines = done.stderr.rstrip("\n").split("\n")
    assert len(lines) == 2, done.stderr
    assert re.match(r"mftriage: \S", lines[0]) and re.match(r"  try: \S", lines[1]), done.stderr
    assert "bug of mftriage" not in lines[0]
    assert done.stdout == ""
    assert not ESCAPES.search(done.stderr.replace("\n", "")), ascii(done.stderr)
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def vmcore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The x86_64 capsule as a kdump-compressed file, as the command line itself writes it."""
    path = tmp_path_factory.mktemp("kdump") / "vmcore"
    done = mftriage("capsule", X86, "-o", path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    return path


# what is no dump


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, this is not a dump at all\n", "not a crash dump"),
        (b"\x7fELF", "ELF"),
        (b"KDUMP   ", "cut short"),
        (craft.elf_core(machine=craft.EM_RISCV), "architecture"),
        (craft.kdump({1: bytes(4096)}, machine="ppc64le"), "ppc64le"),
        (craft.elf_core(kind=craft.ET_EXEC), "no core"),
        (b"\x1f\x8b\x08\x00garbage", "empty"),
        (zstandard.ZstdCompressor().compress(b"not a dump either"), "not a crash dump"),
        (craft.kdump({1: bytes(4096)}, b"", names=False), "architecture"),
        (b"\x1b[31m\x9b\0" * 99, "not a crash dump"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_dump(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "vmcore").write_bytes(content)
    refused(mftriage("analyze", tmp_path / "vmcore"), 3, words)


def test_hostile_names(tmp_path: Path) -> None:
    name = b"\x1b[31m\xe2\x80\xae\xff\x9b\n.vmcore"
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    refused(mftriage("analyze", path), 3)
    path.write_bytes(b"no dump")
    refused(mftriage("analyze", path), 3)


def test_folders(tmp_path: Path) -> None:
    refused(mftriage("analyze", tmp_path), 3, "no vmcore")
    refused(mftriage("analyze", tmp_path / "missing"), 3, "no file")
    refused(mftriage("capsule", tmp_path, "-o", tmp_path / "c"), 3, "no vmcore")
    assert not list(tmp_path.iterdir())


def test_memory_of_a_process_is_no_dump() -> None:
    """A file that can be opened but not read at its start."""
    refused(mftriage("analyze", "/proc/self/mem"), 3, "can't read")


FAILING = """
import os, sys
reads, real = int(sys.argv.pop(1)), os.pread
def pread(*arguments):
    global reads
    reads -= 1
    if reads < 0:
        raise OSError(5, "Input/output error")
    return real(*arguments)
os.pread = pread
import mftriage.cli
mftriage.cli.main()
"""


@pytest.mark.parametrize("reads", [0, 1, 3, 5, 50, 400])
@pytest.mark.parametrize("kind", ["elf", "kdump"])
def test_a_disk_that_fails(kind: str, reads: int, x86_elf: Path, vmcore: Path) -> None:
    path = {"elf": x86_elf, "kdump": vmcore}[kind]
    command = [sys.executable, "-c", FAILING, str(reads), "analyze", str(path), "-f", "json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    if done.returncode == 3:
        refused(done, 3, "Input/output error")
    else:
        assert (done.returncode, done.stderr) == (0, "") and reads > 1
        assert "unexpected" not in done.stdout


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "vmcore")
    refused(mftriage("analyze", tmp_path / "vmcore", timeout=20), 3)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="mftriage-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


AS_NOBODY = """
import os, sys
import mftriage.cli, mftriage.render.text, mftriage.text, mftriage.triage
import mftriage.dump, mftriage.from_log, mftriage.kernel.gather
os.chdir("/")
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
mftriage.cli.main()
"""


def as_nobody(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line without root's rights: modules first, since root's Python may be private."""
    command = [sys.executable, "-c", AS_NOBODY, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "what",
    [
        "file",
        "folder",
        "file in folder",
    ],
)
def test_no_permission(open_folder: Path, what: str) -> None:
    dump = open_folder / "crash" / "vmcore"
    dump.parent.mkdir()
    dump.write_bytes(b"secret")
    dump.chmod(0o600 if what == "file" else 0o644)
    dump.parent.chmod(0o755 if what == "file" else 0o700)
    if os.getuid() != 0:
        (dump if what == "file" else dump.parent).chmod(0)
    try:
        done = as_nobody("analyze", dump.parent if what == "folder" else dump)
    finally:
        dump.parent.chmod(0o755)
    refused(done, 3, "permission", "sudo")


def test_a_private_dump_beside_a_readable_one_is_no_crash(open_folder: Path) -> None:
    """An unreadable vmcore-dmesg.txt only matters where it is needed."""
    (open_folder / "vmcore").write_bytes(b"no dump")
    (open_folder / "vmcore-dmesg.txt").write_text("secret")
    (open_folder / "vmcore-dmesg.txt").chmod(0o000)
    refused(as_nobody("analyze", open_folder), 3, "not a crash dump")


# usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze", X86, "-f", "yaml"],
        ["analyze", X86, "-f", "text,yaml"],
        ["analyze", X86, "--fail-on", "everything"],
        ["analyze", X86, "-f", "text,json"],
        ["analyze", X86, "-o", ""],
        ["convert", ROOT / "reports" / "x86_64-dentry.json", "-f", "text", "-f", "html"],
        ["explain", "no-such-rule"],
        ["convert", ROOT / "README.md"],
        ["convert", ROOT / "missing.json"],
        ["convert", ROOT],
        ["convert", X86],
        ["analyze", X86, "-s", "/nonexistent/vmlinux"],
        ["analyze", X86, "-s", sys.executable],
        ["analyze", X86, "-s", ROOT / "README.md"],
    ],
    ids=lambda arguments: " ".join(Path(str(a)).name for a in arguments),
)
def test_usage(arguments: list[object]) -> None:
    refused(mftriage(*arguments), 2)


@pytest.mark.parametrize(
    "arguments", [["analyze"], ["frobnicate"], ["analyze", X86, "--scan-seconds", "soon"]]
)
def test_usage_that_the_parser_finds(arguments: list[object]) -> None:
    done = mftriage(*arguments)
    assert done.returncode == 2
    assert "Error:" in done.stderr and "Traceback" not in done.stderr and not done.stdout


def test_output_that_exists(tmp_path: Path) -> None:
    target = tmp_path / "report.txt"
    target.write_text("mine")
    refused(mftriage("analyze", X86, "-o", target), 2, "exists", "--force")
    assert target.read_text() == "mine"
    refused(mftriage("capsule", X86, "--lean", "-o", target), 2, "exists", "--force")
    assert target.read_text() == "mine"
    done = mftriage("analyze", X86, "-o", target, "--force")
    assert (done.returncode, done.stdout) == (0, "")
    assert hex(HIT) in target.read_text()


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(mftriage("analyze", X86, "-o", tmp_path / "file" / "report"), 2)
    refused(mftriage("capsule", X86, "--lean", "-o", tmp_path / "no" / "c.vmcore"), 2)


def test_output_in_a_folder_that_may_not_be_entered(open_folder: Path) -> None:
    (open_folder / "private").mkdir(mode=0o700)
    if os.getuid() != 0:
        (open_folder / "private").chmod(0)
    dump = open_folder / "vmcore.zst"
    shutil.copyfile(X86, dump)
    dump.chmod(0o644)
    for command in ("analyze", "capsule"):
        refused(as_nobody(command, dump, "-o", open_folder / "private" / "out"), 2, "write")
    (open_folder / "private").chmod(0o755)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_capsule_never_replaces_what_is_no_file(tmp_path: Path, force: list[str]) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("fifo", "folder", "loop"):
        done = mftriage("capsule", X86, "--lean", "-o", tmp_path / name, *force, timeout=60)
        refused(done, 2, name)
    assert (tmp_path / "fifo").is_fifo() and (tmp_path / "loop").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "folder", "loop"]


def test_a_capsule_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.zst").symlink_to("real.zst")
    assert mftriage("capsule", X86, "--lean", "-o", tmp_path / "link.zst").returncode == 0
    assert (tmp_path / "link.zst").is_symlink() and (tmp_path / "real.zst").is_file()
    refused(mftriage("capsule", X86, "--lean", "-o", tmp_path / "link.zst"), 2, "exists")


def test_each_format_once(tmp_path: Path) -> None:
    done = mftriage("analyze", X86, "-f", "text,text")
    assert done.returncode == 0 and done.stdout.count("Verdict") <= 1
    assert done.stdout == mftriage("analyze", X86).stdout


def test_what_was_written_is_shown_clean(tmp_path: Path) -> None:
    target = tmp_path / "a\x1b[31m\nb.txt"
    done = mftriage("analyze", X86, "-o", target)
    assert (done.returncode, done.stdout) == (0, "") and target.is_file()
    assert done.stderr.count("\n") == 1 and not ESCAPES.search(done.stderr.rstrip("\n"))


def redirected(how: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line with a redirection of the shell's."""
    script = f'exec "$0" -m mftriage "$@" {how}'
    command = ["sh", "-c", script, sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


def test_closed_stdout(tmp_path: Path) -> None:
    refused(redirected(">&-", "analyze", X86), 2, "stdout is closed", "-o")
    refused(redirected(">&-", "explain"), 2, "stdout is closed")
    assert redirected(">&-", "analyze", X86, "-o", tmp_path / "report.txt").returncode == 0


def test_closed_stderr(tmp_path: Path) -> None:
    done = redirected("2>&-", "analyze", X86)
    assert done.returncode == 0 and hex(HIT) in done.stdout
    assert redirected("2>&-", "analyze", X86, "-o", tmp_path / "report.txt").returncode == 0
    assert redirected("2>&-", "analyze", ROOT / "missing").returncode == 3
    assert redirected(">&- 2>&- <&-", "analyze", X86, "-f", "html").returncode == 2


@pytest.mark.parametrize("digits", [25, 400, 5000])
def test_numbers_that_no_triage_has(tmp_path: Path, digits: int) -> None:
    document = (ROOT / "reports" / "x86_64-dentry.json").read_text()
    big = re.sub(r'"size_bytes": \d+', f'"size_bytes": 1{"0" * digits}', document)
    assert big != document
    (tmp_path / "big.json").write_text(big)
    for name in ("text", "markdown", "html", "json"):
        refused(mftriage("convert", tmp_path / "big.json", "-f", name), 2)


def test_no_memory(tmp_path: Path) -> None:
    code = """
import mftriage.triage, mftriage.cli
def broken(*arguments, **options):
    raise MemoryError
mftriage.triage.analyze = broken
mftriage.cli.main()
"""
    command = [sys.executable, "-c", code, "analyze", "x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    refused(done, 3, "memory")


def test_one_file_a_format(tmp_path: Path) -> None:
    done = mftriage("analyze", X86, "-f", "json,html", "-f", "markdown", "-o", tmp_path / "out")
    assert done.returncode == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["report.html", "report.json", "report.md"]
    again = mftriage("convert", tmp_path / "out" / "report.json", "-f", "markdown")
    assert again.stdout == (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("limit", "code"),
    [("unrecoverable-panic", 1), ("possible-delayed-crash", 1), (None, 0)],
)
def test_fail_on(limit: str | None, code: int) -> None:
    done = mftriage("analyze", X86, *(["--fail-on", limit] if limit else []))
    assert done.returncode == code
    assert hex(HIT) in done.stdout and not done.stderr


# dumps that are cut


def cut(source: Path, target: Path, percent: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * percent / 100)])
    return target


@pytest.mark.parametrize("percent", [10, 50, 90, 99])
@pytest.mark.parametrize("kind", ["elf", "kdump", "zst"])
def test_cut(kind: str, percent: int, x86_elf: Path, vmcore: Path, tmp_path: Path) -> None:
    source = {"elf": x86_elf, "kdump": vmcore, "zst": X86}[kind]
    done = mftriage("analyze", cut(source, tmp_path / "vmcore", percent), "-f", "json")
    if done.returncode == 3:
        refused(done, 3)
        return
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["dump"]["complete"] is False
    rows = {row["what"] for row in result["not_checked"]}
    assert "the whole dump" in rows
    assert all(row["why"] and row["remedy"] for row in result["not_checked"])
    assert not any("unexpected" in row["why"] for row in result["not_checked"])
    if "the kernel log" in rows:
        assert result["verdict"]["kind"] in ("inconclusive", "unrecoverable-panic")
    else:
        assert result["verdict"]["kind"] == "unrecoverable-panic"


def test_cut_with_a_readable_log_has_a_verdict(x86_elf: Path, tmp_path: Path) -> None:
    """The least that must work: where the log is left, it tells the verdict."""
    kinds = []
    for percent in (97, 99.5):
        done = mftriage("analyze", cut(x86_elf, tmp_path / "vmcore", percent), "-f", "json")
        result = json.loads(done.stdout)
        assert result["not_checked"]
        kinds.append(result["verdict"]["kind"])
    assert "unrecoverable-panic" in kinds


LOG = """\
[   10.407795] Memory failure: 0x1741: unhandlable page.
[   10.408141] Memory failure: 0x1741: recovery action for reserved kernel page: Ignored
[   10.408472] Kernel panic - not syncing: Memory failure: 0x1741: unrecoverable page
"""


def test_the_log_beside_a_dump_that_has_none(tmp_path: Path) -> None:
    info = craft.note("VMCOREINFO", 0, craft.X86_INFO)
    (tmp_path / "vmcore").write_bytes(craft.elf_core({0x1000: bytes(4096)}, info))
    without = json.loads(mftriage("analyze", tmp_path, "-f", "json").stdout)
    assert without["verdict"]["kind"] == "inconclusive"
    assert "the kernel log" in {row["what"] for row in without["not_checked"]}
    (tmp_path / "vmcore-dmesg.txt").write_text(LOG)
    for path in (tmp_path, tmp_path / "vmcore"):
        result = json.loads(mftriage("analyze", path, "-f", "json").stdout)
        assert result["verdict"]["kind"] == "unrecoverable-panic"
        assert result["memory_failures"][0]["physical_address"] == "0x1741000"
        (row,) = [r for r in result["not_checked"] if r["what"] == "the dump's own log"]
        assert "vmcore-dmesg.txt" in row["why"]


@pytest.mark.parametrize("notes", [b"", craft.note("VMCOREINFO", 0, b"OSRELEASE=7\n")])
@pytest.mark.parametrize("machine", [craft.EM_X86_64, craft.EM_AARCH64])
def test_elf_that_says_next_to_nothing(tmp_path: Path, notes: bytes, machine: int) -> None:
    core = craft.elf_core({0x1000: bytes(4096)}, notes, machine=machine)
    (tmp_path / "vmcore").write_bytes(core)
    done = mftriage("analyze", tmp_path / "vmcore", "-f", "json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["verdict"]["kind"] == "inconclusive"
    assert not any("unexpected" in row["why"] for row in result["not_checked"])


# output


def test_no_escape_codes_where_nobody_looks(tmp_path: Path) -> None:
    done = mftriage("analyze", X86)
    assert done.returncode == 0 and not ESCAPES.search(done.stdout.replace("\n", ""))
    assert len(done.stdout.splitlines()) <= 25


@pytest.mark.parametrize(("extra", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_on_a_terminal(extra: dict[str, str], colored: bool) -> None:
    import pty

    main, terminal = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mftriage", "analyze", X86],
        stdout=terminal,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**environment, "TERM": "xterm-256color", **extra},
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(main, 65536):
            shown += piece
    except OSError:  # the terminal's other end is closed
        pass
    os.close(main)
    assert process.communicate(timeout=60)[1] == b"" and process.returncode == 0
    assert hex(HIT).encode() in shown
    assert (b"\x1b[" in shown) is colored


HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\u2066</script>[/red]`@all`\r\x85\u2028\x9b31m\ud800"


def test_hostile_strings_in_a_log(tmp_path: Path) -> None:
    info = craft.note("VMCOREINFO", 0, craft.X86_INFO)
    (tmp_path / "vmcore").write_bytes(craft.elf_core({0x1000: bytes(4096)}, info))
    log = LOG.replace("reserved kernel page", f"reserved {HOSTILE} page")
    log += f"[   10.5] CPU: 0 PID: 7 Comm: {HOSTILE} Not tainted\n"
    log = f"[    1.0] {{1}}[Hardware Error]: {HOSTILE}: {HOSTILE}\n" + log
    (tmp_path / "vmcore-dmesg.txt").write_bytes(log.encode("utf-8", "surrogatepass"))
    for fmt in ("text", "json", "markdown", "html"):
        done = mftriage("analyze", tmp_path, "-f", fmt)
        assert done.returncode == 0, done.stderr
        assert not ESCAPES.search(done.stdout.replace("\n", "")), fmt
        assert "owned" in done.stdout or fmt == "text"  # which has no room for it
    assert done.stdout.count("</script>") == done.stdout.count("<script")


def test_a_reader_that_leaves_early() -> None:
    """``mftriage analyze vmcore | head -1``"""
    process = subprocess.Popen(
        [sys.executable, "-m", "mftriage", "analyze", X86, "-f", "html"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (0, b"")


def open_files(pid: int) -> str:
    """The names of what a process has open, deleted files too."""
    names = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):  # closed in the meantime
            names.append(os.readlink(link))
    return " ".join(names)


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C while it unpacks: nothing is left, and nobody sees a traceback."""
    dump = tmp_path / "vmcore.zst"
    compress = zstandard.ZstdCompressor().compress
    core = bytearray(craft.elf_core({0: b"x"}))
    core[64 + 56 + 32 : 64 + 56 + 40] = (16 << 30).to_bytes(8, "little")  # p_filesz
    dump.write_bytes(compress(bytes(core)) + compress(bytes(64 << 20)) * 256)  # 16 GiB of zeros
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "mftriage", "analyze", dump],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        # A shell's background job has the signal ignored, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if str(scratch) in open_files(process.pid):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b"" and b"Traceback" not in errors
    assert not list(scratch.iterdir())


def test_interrupted_while_modules_load() -> None:
    code = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "mftriage.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
import runpy
runpy.run_module("mftriage", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


def test_our_own_bug(tmp_path: Path) -> None:
    """What nobody foresaw is told as a bug, in a sentence, with 70."""
    code = """
import mftriage.triage, mftriage.cli
def broken(*arguments, **options):
    raise ZeroDivisionError("\x1b[31mboom")
mftriage.triage.analyze = broken
mftriage.cli.main()
"""
    command = [sys.executable, "-c", code, "analyze", str(X86)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "a bug of mftriage: ZeroDivisionError" in done.stderr and "try: " in done.stderr
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path) -> None:
    done = mftriage("analyze", X86, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0 and not list(tmp_path.iterdir())


def test_no_room_to_unpack(tmp_path: Path) -> None:
    """Nowhere to put the unpacked dump: say TMPDIR."""
    missing = str(tmp_path / "missing")
    code = f"import tempfile; tempfile.tempdir = {missing!r}; import mftriage.cli as c; c.main()"
    command = [sys.executable, "-c", code, "analyze", str(X86)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    refused(done, 3, "TMPDIR")


def test_a_full_disk() -> None:
    """Report on stdout, stdout on a full disk: not our bug."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mftriage", "analyze", X86],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            check=False,
        )
    assert done.returncode not in (0, 70)
    assert "Traceback" not in done.stderr and "No space left" in done.stderr

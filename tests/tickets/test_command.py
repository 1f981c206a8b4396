"""``mftriage attach``, as it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.craft import FIXTURES, ROOT, mftriage
from tests.tickets.fakes import TOKEN, Fake, FakeGitHub, FakeRT

RESULT = ROOT / "reports" / "arm64-dentry.json"
DUMP = FIXTURES / "arm64-dentry" / "capsule.elf.zst"


def test_a_saved_result(fake: Fake) -> None:
    env = fake.environment()
    done = mftriage("attach", RESULT, "--to", fake.to(), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("created http") and done.stdout.count("\n") == 1
    done = mftriage("attach", RESULT, "--to", fake.to(), env=env)
    assert done.stdout.startswith("up to date http")
    assert len(fake.cases) == 1


def test_a_dump_with_its_capsule() -> None:
    fake = FakeRT()
    try:
        env = fake.environment()
        done = mftriage("attach", DUMP, "--to", fake.to(), "--capsule", "--lean", env=env)
        assert done.returncode == 0, done.stderr
        capsule = next(data for name, data in fake.files(1).items() if name.endswith(".elf.zst"))
        assert capsule.startswith(b"\x28\xb5\x2f\xfd") and len(capsule) < 1_000_000
    finally:
        fake.close()


def test_a_dry_run(fake: Fake) -> None:
    done = mftriage("attach", RESULT, "--to", fake.to(), "--dry-run", env=fake.environment())
    assert done.returncode == 0 and not fake.changes()
    assert re.search(rf"^POST {fake.base}/", done.stdout, re.MULTILINE)
    assert "nothing was sent" in done.stdout and TOKEN not in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "env", "code", "says"),
    [
        (["--to", "nope:x"], {}, 2, "no ticket system"),
        (["--to", "github:a/b"], {}, 2, "GITHUB_TOKEN is not set"),
        (["--to", "github:a/b", "--capsule"], {"GITHUB_TOKEN": "x"}, 2, "no memory for a capsule"),
        (["--to", "file:x", "--capsule", "--redact"], {}, 2, "drop --capsule or --redact"),
        (["--to", "jira:MEM"], {"JIRA_TOKEN": "x", "JIRA_URL": "http://x"}, 2, "in the clear"),
        (["--to", "bugzilla:a"], {}, 2, "PRODUCT/COMPONENT"),
        (
            ["--to", "github:a/b"],
            {"GITHUB_TOKEN": "hush-hush", "GITHUB_API_URL": "https://127.0.0.1:1"},
            5,
            "can't be reached",
        ),
    ],
)
def test_errors(arguments: list[str], env: dict[str, str], code: int, says: str) -> None:
    done = mftriage("attach", RESULT, *arguments, env=env)
    assert done.returncode == code, done.stderr
    assert says in done.stderr and "  try: " in done.stderr
    assert len(done.stderr.splitlines()) == 2 and not done.stdout
    assert "hush" not in done.stderr and "Traceback" not in done.stderr


def test_a_file_that_is_neither(tmp_path: Path) -> None:
    other = tmp_path / "x.json"
    other.write_text('{"schema_version": 1}')
    assert mftriage("attach", other, "--to", f"file:{tmp_path}").returncode == 2
    assert mftriage("attach", tmp_path / "none", "--to", f"file:{tmp_path}").returncode == 3


def test_to_a_folder(tmp_path: Path) -> None:
    for _ in range(2):
        done = mftriage("attach", RESULT, "--to", f"file:{tmp_path}")
        assert done.returncode == 0, done.stderr
    written = {path.name: path for path in tmp_path.rglob("*") if path.is_file()}
    assert {"title.txt", "body.md"} < set(written) and len(written) == 4
    result = next(path for name, path in written.items() if name.endswith(".json"))
    assert json.loads(result.read_text()) == json.loads(RESULT.read_text())


def test_redacted(tmp_path: Path) -> None:
    result = json.loads(RESULT.read_text())
    result["dump"]["hostname"] = "secret-host-17"
    source = tmp_path / "result.json"
    source.write_text(json.dumps(result))
    told = set()
    for _ in range(2):
        mapped = ["--redact-map", tmp_path / "map"]
        done = mftriage("attach", source, "--to", f"file:{tmp_path}/out", *mapped)
        assert done.returncode == 0, done.stderr
        told.add(done.stdout)
    assert len(told) == 1  # the same ticket in each run
    for path in (tmp_path / "out").rglob("*"):
        assert "secret-host" not in str(path)
        assert path.is_dir() or b"secret-host" not in path.read_bytes()


def test_a_link() -> None:
    done = mftriage("attach", RESULT, "--to", "link:github:fleet/crashes")
    url = urlsplit(done.stdout.strip())
    assert (url.scheme, url.netloc, url.path) == (
        "https",
        "github.com",
        "/fleet/crashes/issues/new",
    )
    assert len(done.stdout) < 8000
    form = parse_qs(url.query)
    assert "DIMM_G1" in form["title"][0]
    assert "Left out for length" in form["body"][0] and "<!-- mftriage" in form["body"][0]


def test_a_search_that_lags_behind() -> None:
    fake = FakeGitHub()
    try:
        fake.indexed = False
        for word in ("created", "up to date"):
            done = mftriage("attach", RESULT, "--to", fake.to(), env=fake.environment())
            assert done.stdout.startswith(word)
    finally:
        fake.close()


@pytest.fixture
def crashes(tmp_path: Path) -> Path:
    """A folder with two dumps whose memory failed, and one that was stopped by hand."""
    for name in ("arm64-dentry", "x86_64-dentry", "x86_64-sysrq"):
        folder = tmp_path / "crash" / name
        folder.mkdir(parents=True)
        (folder / "vmcore").symlink_to(FIXTURES / name / "capsule.elf.zst")
    return tmp_path / "crash"


def test_a_batch(crashes: Path) -> None:
    fake = FakeGitHub()
    try:
        env, out = fake.environment(), crashes.parent / "out"
        batch = ["batch", crashes, "--out", out, "--attach", fake.to()]
        done = mftriage(*batch, "--attach-most", "1", env=env)
        assert done.returncode == 0, done.stderr
        assert len(fake.cases) == 1 and done.stdout.count("\ncreated https://") == 1
        left = re.findall(r"^left: mftriage (attach \S+\.json)$", done.stdout, re.MULTILINE)
        assert len(left) == 1
        assert mftriage(*left[0].split(), "--to", fake.to(), env=env).returncode == 0
        assert len(fake.cases) == 2
        before = len(fake.calls)
        assert mftriage(*batch, env=env).returncode == 0  # nothing is new
        assert len(fake.calls) == before
    finally:
        fake.close()


def test_a_batch_whose_tracker_is_down(crashes: Path) -> None:
    fake = FakeGitHub()
    env, out = fake.environment(), crashes.parent / "out"
    fake.close()
    done = mftriage("batch", crashes, "--out", out, "--attach", fake.to(), env=env)
    assert done.returncode == 5
    assert "2 reports could not be put on a ticket: GitHub can't be reached" in done.stderr
    assert len(list(out.rglob("*.html"))) == 3  # the batch's own results are there


@pytest.mark.parametrize("to", ["github:a/b#1", "link:github:a/b", "nope:x", "github:a/b"])
def test_targets_that_a_batch_refuses(crashes: Path, to: str) -> None:
    out = crashes.parent / "out"
    done = mftriage("batch", crashes, "--out", out, "--attach", to)
    assert done.returncode == 2 and not out.exists()

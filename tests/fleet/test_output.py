"""The fleet in every format: what is in it, and that nothing in it bites."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from mftriage.errors import UsageError
from mftriage.fleet import load
from mftriage.fleet.output import FORMATS, Request, render
from mftriage.fleet.schema import DTYPES, documentation
from mftriage.fleet.summary import BY
from tests.craft import ROOT, mftriage
from tests.fleet import small, synthetic
from tests.render.strategies import HOSTILE

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "|calc", "%0A=1")
ESCAPES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet whose every string is out to do harm."""
    folder = tmp_path_factory.mktemp("hostile")
    strings = [name for name, dtype in DTYPES.items() if dtype in ("string", "category")]
    for number, text in enumerate([*HOSTILE, *FORMULAS]):
        row = dict.fromkeys(strings, text) | {"verdict": "delayed-crash", "recovered_before": 1}
        for again in "ab":
            small.put(
                folder, f"{number}{again} {text}", row={**row, "injected": False}, reason=text
            )
    return folder


def text_of(folder: Path, fmt: str, by: str | None = None) -> str:
    return render(Request(folder, by), fmt)[0].decode()


def test_the_table_names_offenders(fleet: Path) -> None:
    text = text_of(fleet, "table")
    assert re.search(
        rf"^dumps +{small.DUMPS}: {len(small.NAMES)} analysed, 1 failed; 1 other file$",
        text,
        re.MULTILINE,
    )
    assert re.search(r"would have\s+stopped\s+(\d+)\s+of\s+\1\s+\(100%\)", text)
    assert re.search(r"^  1  (node\d DIMM_\w\d|Lab Memory 00C0FFEE) ", text, re.MULTILINE)
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_by_everything(fleet: Path, fmt: str, by: str) -> None:
    made, problems = render(Request(fleet, by), fmt)
    assert made and not problems


def test_csv_and_parquet_and_json_have_the_table(fleet: Path, tmp_path: Path) -> None:
    frame = load(fleet)
    rows = list(csv.DictReader(io.StringIO(text_of(fleet, "csv"))))
    assert list(rows[0]) == list(DTYPES) and len(rows) == len(frame)
    by_source = {row["source"]: row for row in rows}
    assert by_source["arm64-fatal/vmcore"]["crash_time"] == "2026-11-23T13:27:46Z"
    assert by_source["arm64-fatal/vmcore"]["pfn"] == "0x40541"
    assert by_source["broken/vmcore"]["verdict"] == ""
    path = tmp_path / "x.parquet"
    path.write_bytes(render(Request(fleet), "parquet")[0])
    again = pd.read_parquet(path)
    assert list(again.columns) == list(DTYPES) and len(again) == len(frame)
    document = json.loads(text_of(fleet, "json"))
    assert (
        document["summary"]["memory"] == small.MEMORY and len(document["dumps"]) == small.DUMPS + 1
    )
    one = next(d for d in document["dumps"] if d["source"] == "arm64-fatal/vmcore")
    assert one["crash_time"] == "2026-11-23T13:27:46Z" and one["row"] == 8338
    assert one["dimm_serial_number"] is None and one["injected"] is False


def test_groups_for_programs(fleet: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(text_of(fleet, "csv", "slab_cache"))))
    assert rows[0]["slab_cache"] == "dentry" and rows[0]["rank"] == "1"
    groups = json.loads(text_of(fleet, "json", "slab_cache"))["groups"]
    assert [g["dumps"] for g in groups] == [int(r["dumps"]) for r in rows]


def test_a_spreadsheet_meets_no_formula(hostile: Path) -> None:
    for by in (None, "dimm"):
        for row in csv.reader(io.StringIO(text_of(hostile, "csv", by))):
            for cell in row:
                assert not re.match(r"\s*[=+@|%＝＋－＠]|\s*-(?![\d.])", cell), cell
                assert not ESCAPES.search(cell)


@pytest.mark.parametrize("fmt", ["table", "markdown", "json", "csv"])
def test_no_terminal_sequence_gets_through(hostile: Path, fmt: str) -> None:
    assert not ESCAPES.search(text_of(hostile, fmt).replace("\n", ""))


def test_markdown_has_no_link_html_or_mention(hostile: Path) -> None:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text_of(hostile, "markdown"))
    inner = [child for token in tokens for child in token.children or [token]]
    assert not {t.type for t in inner} & {"link_open", "image", "html_inline", "html_block"}
    for child in inner:
        if child.type == "text":
            assert not re.search(r"(?<!\w)@\w|https?:|<", child.content), child.content


def test_json_of_hostile_strings_is_json(hostile: Path) -> None:
    document = json.loads(text_of(hostile, "json"))
    assert "</script><script>alert(1)</script>" in {dump["host"] for dump in document["dumps"]}


def test_formats_and_groups_that_are_not_there(fleet: Path) -> None:
    with pytest.raises(UsageError, match="no format 'xml'"):
        render(Request(fleet), "xml")
    with pytest.raises(UsageError, match="can't group by 'pfn'"):
        render(Request(fleet, "pfn"), "table")


def test_the_document_of_the_columns() -> None:
    page = (ROOT / "docs" / "fleet-schema.md").read_text(encoding="utf-8")
    assert page == documentation()


# the command line


def test_the_command(fleet: Path, tmp_path: Path) -> None:
    short, whole = mftriage("fleet", fleet), mftriage("fleet", "table", fleet)
    assert short.returncode == 0 and short.stdout == whole.stdout != ""
    out = tmp_path / "out"
    for fmt, name in (("html", "index.html"), ("parquet", "fleet.parquet"), ("csv", "fleet.csv")):
        done = mftriage("fleet", fleet, "-f", fmt, "-o", f"{out}/")
        assert (done.returncode, done.stdout) == (0, "") and name in done.stderr
        assert (out / name).stat().st_size > 1000
    again = mftriage("fleet", fleet, "-f", "csv", "-o", out / "fleet.csv")
    assert again.returncode == 2 and "--force" in again.stderr
    assert mftriage("fleet", fleet, "-f", "parquet").returncode == 2


def test_files_that_can_not_be_read_are_told(tmp_path: Path) -> None:
    small.put(tmp_path, "one", row={"verdict": "unrelated"})
    (tmp_path / "results/aa").mkdir(exist_ok=True)
    (tmp_path / "results/aa/aab.json").write_text("{")
    done = mftriage("fleet", tmp_path)
    assert done.returncode == 0 and "left out" in done.stderr and "aab.json" in done.stderr
    assert "1: 1 analysed" in done.stdout


@pytest.mark.parametrize(
    "arguments", [("fleet",), ("fleet", "/nowhere"), ("fleet", "x", "--by", "y")]
)
def test_what_can_not_be_done_is_one_sentence(arguments: tuple[str, ...]) -> None:
    done = mftriage(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""


def test_without_pandas_it_says_what_to_type(fleet: Path, tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text("raise ImportError('no pandas here')")
    done = mftriage("fleet", fleet, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert done.returncode == 2
    assert "pip install 'mftriage[fleet]'" in done.stderr


def test_a_large_fleet_is_summarised(tmp_path: Path) -> None:
    """A tenth of what `make bench-fleet` takes, with a tenth of its limits and the start on top."""
    from tests.bench.fleet import measure

    folder = synthetic.write(tmp_path / "f", 100_000)
    seconds, peak = measure(folder, "table")
    assert seconds < 4 and peak < 600 * 2**20
    measure(folder, "html", tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert len(page) < 2_000_000 and "This fleet has 100,000 dumps" in page


# masked


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet of two hosts, one of which has told its DIMM's serial number."""
    folder = tmp_path_factory.mktemp("secret")
    for number in range(4):
        host = f"zebra{number % 2}.corp.example"
        dimm = f"Samsung QQ77XX9{number % 2}" if number % 2 else f"{host} DIMM_A1"
        row = {
            "host": host, "dimm": dimm, "dimm_label": "DIMM_A1", "verdict": "delayed-crash",
            "dimm_serial_number": "QQ77XX91" if number % 2 else None, "pfn": "0x1741",
            "summary": f"{host} crashed in page 0x1741 of /srv/zebra/x", "recovered_before": 1,
            "panic_message": "Comm: topsecretd Not tainted 10.1.2.3", "crash_time": "2026-11-23T00:00:00Z",
        }  # fmt: skip
        small.put(folder, f"racks/{host}/{number}/vmcore", row=row)
    small.put(
        folder, "racks/zebra0/x", status="failed", reason="racks/zebra0/x is no dump", row=None
    )
    return folder


@pytest.mark.parametrize("by", [None, "host", "dimm"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_redacted(secret: Path, tmp_path: Path, fmt: str, by: str | None) -> None:
    target = secret / "index.html"
    request = Request(secret, by, 200, target, tmp_path / "map")
    made, _ = render(request, fmt)
    for name in (b"zebra", b"corp.example", b"QQ77", b"racks/", b"topsecretd", b"10.1.2.3"):
        assert name not in made, name
    assert b"DIMM_A1" in made or fmt not in ("csv", "html") or by == "host"
    assert render(request, fmt)[0] == made


def test_redacted_groups_are_the_same(secret: Path, tmp_path: Path) -> None:
    for by in ("host", "dimm"):
        plain = json.loads(text_of(secret, "json", by))["groups"]
        masked = json.loads(render(Request(secret, by, redact_map=tmp_path / "m"), "json")[0])[
            "groups"
        ]
        counts = [[g["dumps"], g["memory"], g["hosts"]] for g in plain]
        assert counts == [[g["dumps"], g["memory"], g["hosts"]] for g in masked] == [[2, 2, 1]] * 2


def test_redacted_on_the_command_line(secret: Path) -> None:
    done = mftriage("fleet", secret, "--redact", "-f", "csv")
    assert done.returncode == 0 and "zebra" not in done.stdout and "host-" in done.stdout
    assert (secret / "redact-map").stat().st_mode & 0o77 == 0
    assert mftriage("fleet", secret, "--redact", "-f", "csv").stdout == done.stdout


def test_a_batch_redacts(tmp_path: Path) -> None:
    """Reports and rows are masked; the records, which know their source, are not for giving away."""
    crash = tmp_path / "dumps" / "zebra7.corp.example"
    crash.mkdir(parents=True)
    (crash / "dmesg.txt").write_text(
        "[    0.000000] Linux version 7.3.4 (x@y) #1 SMP\n"
        "[    1.0] Memory failure: 0x1741: Killing topsecretd:77 due to hardware memory corruption\n"
        "[    1.1] Memory failure: 0x1741: recovery action for dirty LRU page: Recovered\n"
    )
    out = tmp_path / "out"
    done = mftriage("batch", tmp_path / "dumps", "--out", out, "--redact")
    assert done.returncode == 0, done.stderr
    reports = [path.read_text() for path in out.glob("reports/*/*")]
    assert len(reports) == 2
    for text in (*reports, mftriage("fleet", out, "--redact", "-f", "json").stdout):
        assert "topsecretd" not in text and "zebra7" not in text and str(tmp_path) not in text
    assert "topsecretd" in (out / "redact-map").read_text()
    again = mftriage("batch", tmp_path / "dumps", "--out", out, "--redact")
    assert "0 new" in again.stdout
    (out / "redact-map").chmod(0o644)
    refused = mftriage("batch", tmp_path / "dumps", "--out", out, "--redact")
    assert refused.returncode == 2 and "chmod 600" in refused.stderr
    capsules = mftriage("batch", tmp_path / "dumps", "--out", out, "--redact", "--capsules")
    assert capsules.returncode == 2 and "--capsules" in capsules.stderr

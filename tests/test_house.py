"""What holds for the whole house: who may import what, docstrings, registries, the README's claims."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import mftriage as package
from mftriage import errors, model
from mftriage.kernel.owner import DETECTORS
from mftriage.records import DECODERS
from mftriage.render import FORMATS
from mftriage.verdict import RULES
from tests.craft import FIXTURES, ROOT, mftriage

SOURCES = sorted((ROOT / "mftriage").rglob("*.py"))
MODULES = [m.name for m in pkgutil.walk_packages(package.__path__, "mftriage.")]
each_source = pytest.mark.parametrize(
    "source", SOURCES, ids=lambda path: str(path.relative_to(ROOT))
)


def tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


def imports(source: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return found


def room(source: Path) -> str:
    return source.relative_to(ROOT / "mftriage").parts[0]


# who may import what


@each_source
def test_only_those_who_ask_the_dump_know_drgn(source: Path) -> None:
    knows = {name for name in imports(source) if name.split(".")[0] in ("drgn", "_drgn")}
    allowed = room(source) in ("dump", "symbols", "kernel") or source.name == "capsule.py"
    assert allowed or not knows


@each_source
def test_only_the_fleet_knows_pandas(source: Path) -> None:
    heavy = {"pandas", "pyarrow", "duckdb", "numpy"}
    assert room(source) == "fleet" or not {n.split(".")[0] for n in imports(source)} & heavy


@each_source
def test_only_the_tickets_know_http(source: Path) -> None:
    assert room(source) == "tickets" or not {n.split(".")[0] for n in imports(source)} & {"httpx"}


@each_source
def test_data_goes_one_way(source: Path) -> None:
    """source, Dump, Facts, Verdict, Triage, renderers: nobody looks ahead of himself."""
    layers = {
        "dump": ("symbols", "kernel", "records", "verdict", "render", "triage"),
        "symbols": ("kernel", "records", "verdict", "render", "triage", "facts"),
        "kernel": ("verdict", "render", "triage"),
        "records": ("dump", "symbols", "kernel", "verdict", "render", "triage"),
        "verdict": ("dump", "symbols", "kernel", "records", "render", "triage"),
        "render": ("dump", "symbols", "kernel", "records", "verdict", "triage", "facts"),
        "tickets": ("dump", "symbols", "kernel", "records", "verdict", "triage", "facts"),
        "registers": (
            "dump",
            "symbols",
            "kernel",
            "records",
            "verdict",
            "render",
            "triage",
            "facts",
        ),
        "actions.py": ("dump", "symbols", "kernel", "records", "render", "triage"),
        "model.py": ("dump", "symbols", "kernel", "records", "verdict", "render", "facts"),
        "redact.py": (
            "dump",
            "symbols",
            "kernel",
            "records",
            "verdict",
            "render",
            "triage",
            "facts",
        ),
        # the fleet runs the pipeline as a whole, and knows nothing of its parts
        "fleet": ("dump", "symbols", "kernel", "records", "facts"),
    }
    last = {"cli.py": (), "__main__.py": (), "fleet": ("cli",)}.get(room(source), ("cli", "fleet"))
    ahead = {f"mftriage.{name}" for name in (*layers.get(room(source), ()), *last)}
    wrong = {n for n in imports(source) if ".".join(n.split(".")[:2]) in ahead}
    assert not wrong


@each_source
def test_nothing_prints_but_the_command_line(source: Path) -> None:
    if room(source) == "cli.py":
        return
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input", "exit", "quit", "breakpoint")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("sys", "stdout"), ("sys", "stderr")}


@each_source
def test_no_kernel_version_is_tested(source: Path) -> None:
    """Newest layout first, then the older: a release says little of a vendor's kernel."""
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Compare) and isinstance(
            node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE
        ):
            assert "release" not in ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "startswith" or "release" not in ast.unparse(node.func)


# docstrings


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name) if not name.endswith("__main__") else package
    assert inspect.getdoc(module)
    for attribute, value in vars(module).items():
        if attribute.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isfunction(value):
            assert inspect.getdoc(value), attribute
        elif inspect.isclass(value):
            # a dataclass's or NamedTuple's own docstring, not the one that Python makes up
            doc = value.__dict__.get("__doc__") or ""
            assert doc and not doc.startswith(f"{attribute}("), attribute
            for member, function in vars(value).items():
                if not member.startswith("_") and inspect.isfunction(function):
                    assert inspect.getdoc(function), f"{attribute}.{member}"


# registries


@pytest.mark.parametrize("name", [*RULES, *DECODERS])
def test_ids_are_words_with_dashes(name: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)


@pytest.mark.parametrize("name", RULES)
def test_explain_begins_with_the_docstring(name: str) -> None:
    done = mftriage("explain", name)
    assert done.returncode == 0
    said = done.stdout.removeprefix(f"{name}\n\n")
    assert said.startswith((inspect.getdoc(RULES[name]) or "").strip())
    assert "Where it may err:" in said


def test_explain_lists_every_rule() -> None:
    lines = mftriage("explain").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(RULES)
    assert all(len(line.split()) >= 3 for line in lines)


@pytest.mark.parametrize("detect", DETECTORS, ids=lambda d: f"{d.__module__}.{d.__name__}")
def test_detectors(detect: object) -> None:
    assert inspect.getdoc(detect)
    hints = inspect.signature(detect).parameters  # type: ignore[arg-type]
    assert list(hints) == ["subject"]


def owner_kinds() -> Iterator[str]:
    """The kinds that some detector can give, by the source."""
    for source in [*(ROOT / "mftriage" / "kernel").rglob("*.py")]:
        for node in ast.walk(tree(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Owner":
                for keyword in node.keywords:
                    if keyword.arg == "kind":
                        for leaf in ast.walk(keyword.value):
                            if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                                yield leaf.value


def test_every_owner_kind_has_a_detector_and_the_other_way_round() -> None:
    assert set(owner_kinds()) == set(get_args(model.OwnerKind))


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str) -> None:
    module = importlib.import_module(FORMATS[name].module)
    assert inspect.getdoc(module.render)
    assert list(inspect.signature(module.render).parameters) == ["triage", "color", "width"]
    assert FORMATS[name].suffix.startswith(".")


@pytest.mark.parametrize("name", DECODERS)
def test_decoders(name: str) -> None:
    assert inspect.getdoc(DECODERS[name])
    assert DECODERS[name]([]) == ()


def test_every_fixture_has_its_reports() -> None:
    for capsule in FIXTURES.glob("*/capsule.elf.zst"):
        fixture = capsule.parent
        for fmt in FORMATS.values():
            assert (ROOT / "reports" / f"{fixture.name}{fmt.suffix}").is_file()


def test_verdicts_that_rules_give() -> None:
    rules = "".join(p.read_text() for p in (ROOT / "mftriage/verdict").glob("*.py"))
    given = set(re.findall(r'kind="([a-z-]+)"', rules))
    assert given == set(get_args(model.VerdictKind))


def test_exit_codes_are_the_documented_ones() -> None:
    codes = {
        cls.exit_code
        for cls in vars(errors).values()
        if inspect.isclass(cls) and issubclass(cls, errors.MftriageError)
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in codes | {0, 1, 130}:
        assert re.search(rf"\b{code} \w", readme.partition("Exit codes:")[2]), code


# the start


def loaded(*arguments: str) -> set[str]:
    """The modules that are loaded when a command has run."""
    code = (
        "import sys, atexit, json, os\n"
        "atexit.register(lambda: open(os.environ['SEEN'], 'w').write(json.dumps([*sys.modules])))\n"
        "import runpy; runpy.run_module('mftriage', run_name='__main__')"
    )
    seen = Path(os.environ["XDG_CACHE_HOME"]) / f"modules-{os.getpid()}"
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "SEEN": str(seen)}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    return set(json.loads(seen.read_text()))


CAPSULE = str(FIXTURES / "x86_64-dentry" / "capsule.elf.zst")


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (("--help",), {"drgn", "jinja2", "pandas", "zstandard", "pydantic.main"}),
        (("--version",), {"drgn", "jinja2", "pandas", "zstandard", "pydantic.main"}),
        (("explain",), {"drgn", "jinja2", "pandas"}),
        (("fleet", "--help"), {"drgn", "jinja2", "pandas", "pyarrow", "zstandard"}),
        (("fleet", "prune", "--help"), {"drgn", "jinja2", "pandas", "pyarrow", "zstandard"}),
        (("analyze", CAPSULE), {"jinja2", "pandas", "pydantic", "httpx"}),
        (("analyze", CAPSULE, "-f", "json"), {"jinja2", "pandas", "pydantic", "elftools"}),
    ],
    ids=lambda value: " ".join(Path(a).name for a in value) if isinstance(value, tuple) else "",
)
def test_nobody_pays_for_what_he_does_not_use(
    arguments: tuple[str, ...], unwanted: set[str]
) -> None:
    assert not loaded(*arguments) & unwanted


def test_the_fleet_itself_is_cheap() -> None:
    code = "import sys, mftriage.fleet; print({'pandas', 'pyarrow', 'jinja2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_a_batch_loads_an_analysis_only_where_it_runs(tmp_path: Path) -> None:
    """The process that keeps the ledger stays small, however many dumps it starts."""
    (tmp_path / "in").mkdir()
    shutil.copy(CAPSULE, tmp_path / "in" / "vmcore")
    seen = loaded("batch", str(tmp_path / "in"), "--out", str(tmp_path / "out"))
    assert not seen & {"drgn", "jinja2", "pandas", "pyarrow", "zstandard", "mftriage.triage"}


# the README


README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    found = re.findall(r"^    mftriage (.*?)(?:\s+#.*)?$", README, re.MULTILINE)
    return [line.split() for line in found]


def test_the_readme_has_commands() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_of_the_readme_exist(command: list[str]) -> None:
    """Each command is there, and so is each of its options."""
    done = mftriage(command[0], "--help")
    assert done.returncode == 0
    for word in command[1:]:
        if word.startswith("-"):
            assert re.search(rf"(^|[\s,]){re.escape(word)}\b", done.stdout), (word, done.stdout)


def test_commands_of_the_readme_work(tmp_path: Path) -> None:
    """The same commands, on a fixture, in their order."""
    (tmp_path / "crash").mkdir()
    (tmp_path / "crash" / "vmcore").symlink_to(CAPSULE)
    (tmp_path / "vmcore").symlink_to(CAPSULE)
    (tmp_path / "dmesg.txt").write_text(
        "[    0.000000] Linux version 7.3.4\n[    1.5] usb 1-1: new\n"
    )
    result = mftriage("analyze", CAPSULE, "-f", "json")
    (tmp_path / "result.json").write_text(result.stdout)
    for command in commands():
        words = ["crash" if word.startswith("/var/crash") else word for word in command]
        words = ["vmcore" if word.startswith("s3://") else word for word in words]
        words += ["--lean"] if "--capsule" in words else []  # the same, sooner
        done = mftriage(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
        assert done.stdout or "-o" in words
    assert (tmp_path / "report.html").read_text().startswith("<!")
    assert (tmp_path / "case.elf.zst").stat().st_size < 4_000_000


def test_every_command_is_in_the_readme_or_helps_itself() -> None:
    listed = re.findall(r"^  (\w+) {2,}\S", mftriage("--help").stdout, re.MULTILINE)
    assert {command[0] for command in commands()} <= set(listed)
    for name in listed:
        done = mftriage(name, "-h")
        assert done.returncode == 0 and len(done.stdout.splitlines()) > 3


def test_help_is_for_any_terminal() -> None:
    done = mftriage("--help", env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_schema_is_that_of_the_reports() -> None:
    schema = json.loads(mftriage("schema").stdout)
    for report in (ROOT / "reports").glob("*.json"):
        result = json.loads(report.read_text())
        assert set(result) == set(schema["properties"])

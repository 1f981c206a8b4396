"""The documents: their links, command lines, rules, exit codes and keys are those of the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mftriage import cli, errors
from mftriage.codec import schema
from mftriage.kernel.hardware import SOURCES
from mftriage.model import Triage
from mftriage.verdict import RULES

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not path.relative_to(ROOT).parts[0].startswith((".", "reports", "out"))
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SEPARATORS = {"|", "||", "&&", ";", "&", "(", ")", "<", ">", ">>", "if", "then", "do", "!"}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Without the fenced blocks."""
    return _FENCE.sub("", text)


def anchors(path: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text_of(path)), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links(document: Path) -> None:
    for link in _LINK.findall(prose(text_of(document))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


# command lines


def _commands() -> dict[str, Any]:
    """Every command by its words; ``fleet`` is short for ``fleet table``."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {})
        found |= {f"{name} {word}": one for word, one in below.items() if word != "table"}
        found[name] = below.get("table", command)
    return found


_COMMANDS = _commands()
_HELP = {"-h", "--help"}


def blocks() -> Iterator[tuple[str, str, list[str]]]:
    """Every command of every ``console`` block: (document, command, the lines that it printed)."""
    for document in DOCUMENTS:
        for language, block in _FENCE.findall(text_of(document)):
            if language != "console":
                continue
            commands: list[tuple[str, list[str]]] = []
            for line in block.splitlines():
                if line.startswith("$ "):
                    commands.append((line[2:], []))
                elif commands and commands[-1][0].endswith("\\"):
                    command, printed = commands[-1]
                    commands[-1] = command[:-1] + line.strip(), printed
                else:
                    assert commands, f"{document}: output before a command: {line!r}"
                    commands[-1][1].append(line)
            for command, printed in commands:
                yield str(document.relative_to(ROOT)), command, printed


BLOCKS = list(blocks())


def invocations(command: str) -> Iterator[list[str]]:
    """The arguments of each call of mftriage in a line of shell."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] | None = None
    for word in [*lexer, ";"]:
        if word in _SEPARATORS:
            if words is not None:
                yield words
            words = None
        elif words is not None:
            words.append(word)
        elif word == "mftriage":
            words = []


def complaint(words: list[str]) -> str | None:
    """What is wrong with the arguments of a call, if anything."""
    if not words or words[0].startswith("-"):
        known = {"--version", *_HELP}
        return next((f"no option {word}" for word in words if word not in known), None)
    length = 2 if " ".join(words[:2]) in _COMMANDS else 1
    command = " ".join(words[:length])
    if command not in _COMMANDS:
        return f"no command {command}"
    options = {name: p for p in _COMMANDS[command].params for name in p.opts}
    rest = iter(words[length:])
    for word in rest:
        if not word.startswith("-") or word == "-" or word in _HELP:
            continue
        name, equals, _ = word.partition("=")
        if name not in options:
            return f"{command} has no option {name}"
        if not getattr(options[name], "is_flag", False) and not equals and not next(rest, None):
            return f"{name} wants a value"
    return None


@pytest.mark.parametrize(("document", "command"), [block[:2] for block in BLOCKS])
def test_command_lines_exist(document: str, command: str) -> None:
    for words in invocations(command):
        assert complaint(words) is None, command


def test_a_wrong_command_line_is_seen() -> None:
    assert [*invocations("if mftriage analyze x --nope; then mftriage fleet y | wc; fi")] == [
        ["analyze", "x", "--nope"],
        ["fleet", "y"],
    ]
    assert complaint(["analyze", "x", "--nope"]) and complaint(["fleets", "y"])
    assert complaint(["fleet", "prune", "y", "--by", "z"]) and complaint(["fleet", "y", "--keep=1"])
    assert not complaint(["fleet", "prune", "y", "--keep", "z"])
    assert complaint(["analyze", "x", "-f"]) and complaint(["--nope"])
    assert not complaint(["analyze", "x", "-f", "json", "--scan-seconds=1"])


def repeatable(command: str) -> bool:
    """Whether the command reads nothing but what is shipped, and writes to stdout alone."""
    return bool(
        re.fullmatch(r"mftriage [^|&;<>$]*", command)
        and not re.search(r" (-o|--out|--output|--capsule|--force)\b", command)
        and not re.match(r"mftriage (analyze|attach|convert|capsule) (?!fix|reports/)", command)
    )


@pytest.mark.parametrize(
    ("command", "printed"),
    [(command, printed) for _, command, printed in BLOCKS if printed and repeatable(command)],
)
def test_what_is_shown_is_what_is_printed(command: str, printed: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout + done.stderr).rstrip("\n").splitlines() == printed


# words that the code has too


def section(document: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = heading.index(" ")
    _, found, rest = text_of(ROOT / "docs" / document).partition(f"\n{heading}\n")
    assert found, heading
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_rules() -> None:
    headings = re.findall(
        r"^### \d+\. `([\w-]+)`$", section("verdict.md", "## Rules"), re.MULTILINE
    )
    assert headings == list(RULES)


def test_verdicts_and_fail_on() -> None:
    kinds = schema()["$defs"]["Verdict"]["properties"]["kind"]["enum"]
    assert [row[0].strip("`") for row in rows(section("verdict.md", "## Kinds"))] == kinds
    listed = re.search(r"`--fail-on VERDICT`.*", text_of(ROOT / "docs/reference.md"))
    assert listed is not None
    assert re.findall(r"`([a-z]+(?:-[a-z]+)+)`", listed[0]) == list(cli._ORDER)


def test_owner_kinds() -> None:
    kinds = schema()["$defs"]["Owner"]["properties"]["kind"]["enum"]
    found = [row[0].strip("`") for row in rows(section("verdict.md", "## Owners and the sysctl"))]
    assert sorted(found) == sorted(kinds)


def test_exit_codes() -> None:
    told = {int(row[0]) for row in rows(section("reference.md", "## Exit codes"))}
    kinds = [errors.MftriageError, *errors.MftriageError.__subclasses__()]
    source = text_of(ROOT / "mftriage" / "cli.py") + text_of(ROOT / "mftriage" / "__main__.py")
    raised = re.findall(r"(?:typer\.Exit|SystemExit)\((\d+)\)", source)
    assert told == {0, *map(int, raised), *(kind.exit_code for kind in kinds)}


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_option_is_in_the_reference(command: str) -> None:
    told = section("reference.md", f"### {command}")
    found = {row[0] for row in rows(told)}
    for parameter in _COMMANDS[command].params:
        names = [name for name in parameter.opts if name.startswith("-")]
        if names:
            assert any(
                set(re.findall(r"(?<![\w-])--?[a-z-]+", cell)) == set(names) for cell in found
            )
    for cell in found:
        names = re.findall(r"(?<![\w-])--?[a-z-]+", cell)
        assert complaint([*command.split(), *(f"{name}=x" for name in names)]) is None


# the result


def type_words(part: dict[str, Any]) -> str:
    """A type of the schema as docs/schema.md has it."""
    if "$ref" in part:
        name = part["$ref"].removeprefix("#/$defs/")
        return f"[{name}](#{name.lower()})"
    if "anyOf" in part:
        return " or ".join(map(type_words, part["anyOf"]))
    if "const" in part:
        return f"{part['type']}, always {part['const']}"
    if "enum" in part:
        return "one of " + ", ".join(f"`{value}`" for value in part["enum"])
    if part["type"] == "array":
        return f"list of {type_words(part['items'])}"
    return str(part["type"])


def test_schema() -> None:
    made = schema()
    types = {"Triage": made, **made["$defs"]}
    headings = re.findall(r"^## ([A-Z]\w+)$", text_of(ROOT / "docs/schema.md"), re.MULTILINE)
    assert set(types) | {"Rules"} == set(headings) and len(headings) == len(types) + 1
    assert headings[1] == "Triage" and len(fields(Triage)) == len(made["properties"])
    for name, part in types.items():
        told = rows(section("schema.md", f"## {name}"))
        assert [(row[0], row[1]) for row in told] == [
            (f"`{key}`", type_words(below)) for key, below in part["properties"].items()
        ]
        assert all(len(row) == 4 and row[3].endswith((".", "`")) for row in told), name


def test_records_in_memory() -> None:
    told = rows(section("records-in-memory.md", "## Sources"))
    assert len(told) == len(SOURCES)
    read = {source.__module__.rpartition(".")[2] for source in SOURCES.values()}
    assert {row[0].strip("`") for row in told} == read

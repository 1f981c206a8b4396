"""The Markdown report: what a dump holds stays text on GitHub, GitLab and in CommonMark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mftriage.model import Triage
from mftriage.render import render
from mftriage.render.markdown import LIMIT
from tests.render.full import FULL, huge
from tests.render.samples import ARM64_GHES, INCONCLUSIVE, SAMPLES
from tests.render.strategies import HOSTILE, QUICK, saturate, triages

_PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_SAFE = {
    "heading", "paragraph", "inline", "text", "code_inline", "strong", "fence",
    "bullet_list", "ordered_list", "list_item", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
# The only HTML: what folds a record away.
_FOLDS = {"<details><summary>All that the record says</summary>\n", "</details>\n"}
# What GitHub and GitLab turn into links after they have rendered the Markdown.
_REFERENCE = re.compile(r"[@#~$<>\[\]{}|*_`\\]|!\S|://|www\.|(?i:\bgh-\d)|:\w+:")


def tokens(markdown: str) -> Iterator[Token]:
    """Return all tokens, those inside of others as well."""
    for token in _PARSER.parse(markdown):
        yield token
        yield from token.children or ()


def check(markdown: str) -> list[Token]:
    """Hold what holds for every Markdown report."""
    assert len(markdown) <= LIMIT
    markdown.encode()
    assert all(line.isprintable() for line in markdown.split("\n"))
    found = list(tokens(markdown))
    columns = depth = 0
    for token in found:
        if token.type == "html_block":
            assert token.content in _FOLDS
            depth += 1 if token.content.startswith("<details>") else -1
            assert depth in (0, 1)
            continue
        kind = re.sub("_(open|close)$", "", token.type)
        assert kind in _SAFE, (token.type, token.content)
        if kind == "text":
            # The name of the sysctl is ours, and has underscores.
            text = token.content.replace("vm.panic_on_unrecoverable_memory_failure", "")
            assert not _REFERENCE.search(text), text
        if token.type == "fence":
            assert token.info == "text"
    assert depth == 0
    for block in re.split("\n\n", markdown):
        if block.startswith("| "):
            rows = [line.count("|") for line in block.rstrip("\n").split("\n")]
            assert len(set(rows)) == 1, block
            columns += 1
    assert columns == sum(token.type == "table_open" for token in found)
    return found


@QUICK
@given(triages())
def test_any_triage_stays_text(triage: Triage) -> None:
    check(render(triage, "markdown"))


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_hostile_string_changes_no_block(hostile: str) -> None:
    def blocks(text: str) -> list[str]:
        found = check(render(saturate(FULL, text), "markdown"))
        return [token.type for token in found if token.block]

    assert blocks(hostile) == blocks("word")


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str) -> None:
    check(render(SAMPLES[name], "markdown"))


@pytest.mark.parametrize("word", ["word ", "@x ", "`", "|"], ids=ascii)
def test_huge_triage_is_cut_and_says_so(word: str) -> None:
    report = render(huge(word), "markdown")
    check(report)
    assert "Left out for length: " in report
    assert "\nMade by `mftriage`" in report


def test_raw_lines_stay_as_they_are() -> None:
    report = render(ARM64_GHES, "markdown")
    raw = "\n".join(ARM64_GHES.hardware_errors[0].raw)
    assert f"```text\n{raw}\n```" in report


def test_fence_is_longer_than_any_in_the_log() -> None:
    report = render(saturate(FULL, "`````` log"), "markdown")
    assert "```````text\n`````` log\n" in report


def test_sentences_stay_readable() -> None:
    report = render(ARM64_GHES, "markdown")
    assert "- **Hardware**: ghes: recoverable multi-bit ECC, at 0x444d0780, `DIMM_C0_S0`," in report
    assert 'The kernel called the page "reserved kernel page"; the dump proves a slab.' in report


def test_unknown_facts_are_left_out() -> None:
    report = render(INCONCLUSIVE, "markdown")
    assert "None" not in report
    assert "### Page" not in report


def test_commands_of_what_to_do_are_code() -> None:
    triage = replace(
        ARM64_GHES, actions=("Type `a > /b_c`, then (or `d`). An odd one", "An odd ` stays")
    )
    markdown = render(triage, "markdown")
    assert "1. Type `a > /b_c`, then (or `d`). An odd one\n" in markdown
    assert "1. An odd `` ` `` stays\n" in markdown
    check(markdown)

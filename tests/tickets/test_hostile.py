"""A hostile report comes out harmless in every system."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mftriage.model import Triage
from mftriage.render.words import VERDICTS
from mftriage.tickets import SYSTEMS, system
from mftriage.tickets.document import Document
from mftriage.tickets.identity import mark_of
from mftriage.tickets.markup import Markup, comparable, signed, writer
from mftriage.tickets.report import report, sighting, title
from tests.render.full import FULL
from tests.render.samples import SAMPLES
from tests.render.strategies import HOSTILE, QUICK, saturate, triages

FINGERPRINT = "mftriage0123456789abcdef0123"
ATTACKS = (
    *HOSTILE,
    "@everyone @channel user#1 user:admin [~admin] [~accountid:5b10] @[Jane](user:1)",
    "Closes #1, Fixes GH-1, fixes AB-12, resolves fleet/crashes#3, closes https://github.com/a/b/issues/1",
    "![](http://x.example/p.png) !http://x.example/p.png! !img.png|width=300! [img]http://x[/img]",
    "{code} {noformat} {quote} {color:red}x{color} {html}<b>{html} {panel:title=x} {jira:AB-1} {include:x}",
    "{noformat}\n{code}\nh1. Owned\n{code}",
    "</pre> <pre> </code> <notextile>x</notextile> ==x== \"link\":http://x.example %{color:red}x% p(x#y). z",
    "{{macro}} {{collapse(x)}} {{>toc}} {{include(Wiki)}} [[Wiki|x]] commit:abcdef12 r12 source:x attachment:y version:1 #12 #note-3",
    "bug 12 Bug #12 comment 3 bug 1, comment 2 attachment 7 issue12 msg3 file 4 user5 ticket #9 deadbeef00",
    "/close\n/assign @me\n/label ~x\n  /close",
    "```\n/close\n```\n````\n/close",
    "bq. quote\nh1. heading\nfn1. note\n* item\n# item\n|_. cell|\n----\n",
    "(x) (!) (/) :) :-) (on) ??cite?? -gone- +new+ ^up^ ~down~ _it_ *b* {*}b{*}",
    "x" * (1 << 20),
)  # fmt: skip


def documents(triage: Triage) -> Iterator[Document]:
    yield report(triage, ["a.html"], FINGERPRINT)
    yield sighting(triage, ["a.html"], FINGERPRINT)


def written(triage: Triage, markup: Markup) -> list[str]:
    return [writer(markup)(document) for document in documents(triage)]


# Markdown: the tokens that a parser sees


_PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_TOKENS = {
    "heading", "paragraph", "inline", "text", "code_inline", "strong", "fence",
    "bullet_list", "ordered_list", "list_item", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
_LIVE = re.compile(
    r"[@#~$<>\[\]{}|*`\\]|!\S|://|www\.|(?i:\bgh-\d|\b[a-z]{2,}-\d)|:\w+:|(?<![\w-])r\d+(?![\w-])|(?<![\w.])[0-9a-f]{7,40}(?![\w.])"
)


def check_markdown(text: str) -> None:
    for block in _PARSER.parse(text):
        for token in (block, *(block.children or ())):
            assert re.sub("_(open|close)$", "", token.type) in _TOKENS, (token.type, token.content)
            if token.type == "text":
                assert not _LIVE.search(token.content), token.content
    # GitLab looks for these before it parses anything.
    assert not re.search(r"^/", text, re.MULTILINE)
    inner = re.findall(r"^(`{3,})text\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)
    assert all(not re.search(r"^[`~]{3}", body, re.MULTILINE) for _, body in inner)


# wiki markups: outside of their own marks nothing but words is left


_ENTITY = re.compile(r"&#\d+;")


def check_jira(text: str) -> None:
    text = _without_blocks(text, "{noformat}", "{noformat}", r"\{(?=[\w{])")
    for line in text.split("\n"):
        line = re.sub(r"^(h[23]\. |# |\* (?=\*))", "", line)
        # Bold labels and sentences, code spans, and the bars of tables are ours.
        line = re.sub(r"^\*([\w, .'-]|&#\d+;|[.:;,/+])*\*(: )?", "", line)
        line = re.sub(r"\{\{((?:[^{}]|&#\d+;)*?)\}\}", r"\1", line)
        line = re.sub(r"^\|.*\|$", lambda m: m[0].replace("|", " "), line)
        _check_words(line)


def check_textile(text: str) -> None:
    text = _without_blocks(text, "<pre>", "</pre>", r"<[\w/!?]")
    for line in text.split("\n"):
        line = re.sub(r"^(h[23]\. |# |\* (?=\*))", "", line)
        line = re.sub(r"^\|_\. .*\|$", "", line)
        line = re.sub(r"^\*([\w, .'-]|&#\d+;|[.:;,/+])*\*(: )?", "", line)
        line = re.sub(r"^\| .* \|$", lambda m: m[0].replace("|", " "), line)
        _check_words(line)


def _without_blocks(text: str, start: str, end: str, inside: str) -> str:
    """Without the preformatted blocks, in which nothing may end them."""
    rest = []
    while start in text:
        before, _, text = text.partition(f"{start}\n")
        body, _, text = text.partition(f"\n{end}")
        assert not re.search(inside, body), body
        rest.append(before)
    return "".join([*rest, text])


def _check_words(line: str) -> None:
    bare = _ENTITY.sub("§", line)
    assert not re.search(r"[@#~$<>\[\]{}|*^!?`\\\"()=%]", bare), line
    assert not re.search(r"(?i)://|www\.|\b[A-Z]{2,}-\d|(?<!\w)r\d+(?!\w)|(^|\s)[-+_]", bare), line
    assert "--" not in bare and not re.match(r"(bq|h\d|p|fn\d)\. ", line.strip()), line
    commits = re.findall(r"\b[0-9a-f]{7,40}\b", _ENTITY.sub("_", line))
    assert not commits, line


def check_plain(text: str) -> None:
    assert not re.search(r"://|(?i:www\.)|\w@\w|#\d", text)
    word = (
        r"(?<![a-z_])(bug|comment|attachment|issue|msg|file|user|ticket|status|priority)\s*#?\s*\d"
    )
    assert not re.search(f"(?i){word}", text)


def check_adf(text: str) -> None:
    """Only nodes that hold text, and none that is a mention, a link, a card or a macro."""

    def walk(node: Any) -> None:
        assert node["type"] in {
            "doc", "heading", "paragraph", "bulletList", "orderedList", "listItem", "table",
            "tableRow", "tableHeader", "tableCell", "codeBlock", "text",
        }  # fmt: skip
        assert {mark["type"] for mark in node.get("marks", [])} <= {"strong", "code"}
        assert node["type"] != "text" or node["text"]
        for inner in node.get("content", []):
            walk(inner)

    walk(json.loads(text))


CHECKS = {
    "markdown": check_markdown,
    "jira": check_jira,
    "textile": check_textile,
    "plain": check_plain,
    "adf": check_adf,
}
EACH = [(name, markup) for name in SYSTEMS for markup in system(name).limits.markup]


def check(text: str, markup: Markup) -> None:
    text.encode()
    assert all(line.isprintable() for line in text.split("\n"))
    CHECKS[markup](text)


@pytest.mark.parametrize(("name", "markup"), EACH)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: ascii(a[:20]))
def test_a_hostile_report_stays_text(name: str, markup: Markup, attack: str) -> None:
    for text in written(saturate(FULL, attack), markup):
        check(text, markup)
        marked = signed(text, f"Reference: {FINGERPRINT[:28]} {'0' * 12} {'1' * 12}", markup)
        found = mark_of(comparable(marked, markup))
        assert found is not None and found.digest == "1" * 12


def shape(text: str, markup: Markup) -> list[str]:
    """The marks that lines begin with, or the types of nodes; without what is in preformatted blocks."""
    if markup == "adf":
        return re.findall(r'"type": "(?!text|code"|strong)(\w+)"', text)
    if markup == "markdown":
        return [block.type for block in _PARSER.parse(text)]
    ends = ("{noformat}", "{noformat}") if markup == "jira" else ("<pre>", "</pre>")
    text = _without_blocks(text, *ends, r"\0")
    return re.findall(r"^(# |\* |\|\||\||h\d\. |bq|<|\{)", text, re.MULTILINE)


@pytest.mark.parametrize("markup", sorted({*CHECKS} - {"plain"}))
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: ascii(a[:20]))
def test_a_hostile_report_has_the_blocks_of_any_other(markup: Markup, attack: str) -> None:
    texts = written(saturate(FULL, f"{attack}."), markup)
    assert [shape(text, markup) for text in texts] == [
        shape(text, markup) for text in written(saturate(FULL, "word."), markup)
    ]


@pytest.mark.parametrize("markup", CHECKS)
@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str, markup: Markup) -> None:
    for text in written(SAMPLES[name], markup):
        check(text, markup)
        plain = comparable(text, markup)
        assert VERDICTS[SAMPLES[name].verdict.kind].title in plain


@QUICK
@given(triages(), st.sampled_from(sorted(CHECKS)))
def test_any_triage_stays_text(triage: Triage, markup: Markup) -> None:
    for text in written(triage, markup):
        check(text, markup)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: ascii(a[:20]))
def test_titles(attack: str) -> None:
    made = title(saturate(FULL, attack), 200)
    assert len(made) <= 200 and made.isprintable()
    assert not re.search(r"[@#~$<>{}|*^!`\\&]|://|(?i:\bwww\.|\bgh-\d)|\b[A-Z]{2,}-\d", made)


def test_a_title_is_cut_on_a_word() -> None:
    made = title(FULL, 60)
    assert len(made) <= 60 and made.endswith("…") and not made.endswith(" …")
    assert title(FULL, 255).startswith(made[:-1])

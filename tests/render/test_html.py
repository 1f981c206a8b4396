"""The HTML report: well formed, self-contained, and free of what a dump would inject."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given

from mftriage.model import Triage
from mftriage.render import render
from tests.render.full import FULL, huge
from tests.render.samples import ARM64_GHES, INCONCLUSIVE, SAMPLES, X86_SYSCTL_PANIC
from tests.render.strategies import HOSTILE, QUICK, saturate, triages

_VOID = {"meta", "path", "circle", "rect"}
_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section",
    "div", "p", "span", "b", "small", "code", "pre", "h1", "h2", "h3", "dl", "dt",
    "dd", "ol", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td", "time", "details",
    "summary", "figure", "figcaption", "svg", "path", "circle", "rect", "text",
}  # fmt: skip
_ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "id", "scope", "aria-labelledby",
    "aria-label", "aria-hidden", "role", "datetime", "viewbox", "width", "height", "d", "cx", "cy",
    "r", "x", "y", "tabindex", "colspan",
}  # fmt: skip


class Page(HTMLParser):
    """Collects elements and checks that they nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.shape: list[tuple[str, tuple[str, ...]]] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.metas: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.style = ""
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Hold every element against the lists of what the template uses."""
        assert tag in _TAGS, tag
        values = dict(attrs)
        assert set(values) <= _ATTRIBUTES, values
        self.tags[tag] += 1
        self.shape.append((tag, tuple(sorted(values))))
        self.ids += [values["id"] or ""] if "id" in values else []
        self.labelled += [values["aria-labelledby"] or ""] if "aria-labelledby" in values else []
        if tag == "meta":
            self.metas.append(values)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Only SVG's leaves are written this way."""
        assert tag in _VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Every end tag must close the innermost element."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text, and the style sheet apart."""
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        """There are none."""
        raise AssertionError(data)

    def handle_pi(self, data: str) -> None:
        """There are none."""
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        """There are none."""
        raise AssertionError(data)


def check(html: str) -> Page:
    """Hold what holds for every HTML report."""
    html.encode()
    assert all(char.isprintable() or char == "\n" for char in html)
    page = Page(html)
    assert page.tags["h1"] == page.tags["main"] == page.tags["style"] == 1
    assert len(page.ids) == len(set(page.ids))
    assert set(page.labelled) <= set(page.ids)
    return page


@QUICK
@given(triages())
def test_any_triage_injects_nothing(triage: Triage) -> None:
    check(render(triage, "html"))


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_hostile_string_changes_no_element(hostile: str) -> None:
    # The same elements and attributes as with a harmless string of the same kind; but that back-ticks in what to do
    # make a command of what they hold.
    def shape(text: str) -> list[tuple[str, tuple[str, ...]]]:
        page = check(render(saturate(FULL, text), "html"))
        return [element for element in page.shape if element != ("code", ())]

    assert shape(hostile) == shape("w" * len(hostile))


def test_commands_of_what_to_do_stand_out() -> None:
    triage = replace(ARM64_GHES, actions=("Type `a <b>`, then go on.", "An odd ` stays."))
    html = render(triage, "html")
    assert "<li>Type <code>a &lt;b&gt;</code>, then go on.</li>" in html
    assert "<li>An odd ` stays.</li>" in html


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str) -> None:
    triage = SAMPLES[name]
    page = check(render(triage, "html"))
    assert triage.verdict.summary in page.texts
    assert "None" not in " ".join(page.texts)


def test_policy_allows_this_style_sheet_and_nothing_else() -> None:
    page = check(render(ARM64_GHES, "html"))
    (policy,) = (meta["content"] for meta in page.metas if "http-equiv" in meta)
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_style_sheet_is_self_contained_and_has_both_schemes_and_print() -> None:
    style = check(render(ARM64_GHES, "html")).style
    assert "url(" not in style and "@import" not in style
    assert "prefers-color-scheme: dark" in style and "@media print" in style


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_is_enough_to_read(scheme: int) -> None:
    style = check(render(ARM64_GHES, "html")).style
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    tones = ("bad", "warn", "calm", "unknown")
    pairs = [(ink, paper) for ink in ("ink", "muted") for paper in ("bg", "card", "well")]
    pairs += [(ink, f"{tone}-bg") for tone in tones for ink in ("ink", "muted", tone)]
    pairs += [("card", tone) for tone in tones]
    for ink, paper in pairs:
        low, high = sorted((_luminance(colours[ink]), _luminance(colours[paper])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)


def test_picture_of_the_page_marks_line_and_object() -> None:
    html = render(X86_SYSCTL_PANIC, "html")
    assert "Bad cache line: bytes 0x3c0 to 0x3ff. Object: bytes 0x3c0 to 0x47f." in html
    # The line is the last of the first row of 16; the object goes on in the second.
    assert '<rect class="bad" x="600.0" y="0" width="40.0" height="22"/>' in html
    assert '<rect class="object" x="0.0" y="22" width="80.0" height="22"/>' in html


def test_no_picture_without_an_address_below_the_page() -> None:
    assert "<figure" not in render(SAMPLES["unrelated-sysrq"], "html")


def test_unknown_sections_are_left_out() -> None:
    page = check(render(INCONCLUSIVE, "html"))
    assert page.ids == ["verdict", "unchecked", "host"]


def test_huge_triage_stays_readable() -> None:
    html = render(huge(many=202), "html")
    check(html)
    assert "… and 2 more: see the JSON." in html

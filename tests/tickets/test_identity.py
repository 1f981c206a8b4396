"""Fingerprints, marks, targets and settings."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mftriage.errors import UsageError
from mftriage.model import Dimm, Triage
from mftriage.tickets import SYSTEMS, system
from mftriage.tickets.document import Document, Lines, Paragraph, Section, fitted, pieces
from mftriage.tickets.http import checked_url
from mftriage.tickets.identity import Mark, crash_id, digest, fingerprint, mark_of, without_mark
from mftriage.tickets.interface import Target
from mftriage.tickets.markup import writer
from mftriage.tickets.settings import settings
from mftriage.tickets.target import parse
from tests.render.samples import ARM64_GHES, X86_SYSCTL_PANIC


def on(host: str | None, dimm: Dimm | None, triage: Triage = X86_SYSCTL_PANIC) -> Triage:
    return replace(triage, dump=replace(triage.dump, hostname=host), dimm=dimm)


SERIAL = Dimm(label="A1", manufacturer="M", part_number="P", serial_number="123")


def test_a_dimm_with_a_serial_number_is_the_same_in_any_host_and_slot() -> None:
    moved = replace(SERIAL, label="B2")
    assert fingerprint(on("a", SERIAL)) == fingerprint(on("b", moved))
    assert fingerprint(on("a", SERIAL)) != fingerprint(on("a", replace(SERIAL, serial_number="4")))


def test_a_label_is_one_of_its_host() -> None:
    label = Dimm(label="A1")
    assert fingerprint(on("a", label)) == fingerprint(on("a", label))
    assert fingerprint(on("a", label)) != fingerprint(on("b", label))
    assert fingerprint(on("a", label)) != fingerprint(on("a", Dimm(label="A2")))


def test_without_a_dimm_the_page_counts() -> None:
    page = X86_SYSCTL_PANIC.page
    assert page is not None
    other = replace(X86_SYSCTL_PANIC, page=replace(page, pfn="0x9"))
    assert fingerprint(on("a", None)) == fingerprint(on("a", None))
    assert fingerprint(on("a", None)) != fingerprint(on("a", None, other))


@pytest.mark.parametrize("host", [None, "", "(none)", "localhost", "localhost.localdomain"])
def test_hosts_without_a_name_are_not_one_host(host: str | None) -> None:
    first = on(host, Dimm(label="A1"))
    later = replace(first, dump=replace(first.dump, crash_time="2026-12-24T00:00:00Z"))
    assert fingerprint(first) != fingerprint(later)


def test_where_it_died_does_not_count_but_the_cause_does() -> None:
    here = replace(X86_SYSCTL_PANIC, signature="2:delayed-crash:slab/dentry@d_lookup")
    there = replace(X86_SYSCTL_PANIC, signature="2:delayed-crash:slab/dentry@dput")
    other = replace(X86_SYSCTL_PANIC, signature="2:delayed-crash:slab/inode@dput")
    assert fingerprint(here) == fingerprint(there) != fingerprint(other)


def test_a_capsule_is_the_same_crash_as_its_dump() -> None:
    dump = replace(X86_SYSCTL_PANIC.dump, path="x.elf.zst", size_bytes=1, format="capsule+zst")
    assert crash_id(replace(X86_SYSCTL_PANIC, dump=dump)) == crash_id(X86_SYSCTL_PANIC)
    assert crash_id(X86_SYSCTL_PANIC) != crash_id(ARM64_GHES)


@pytest.mark.parametrize("hidden", [True, False])
@given(text=st.text())
def test_a_mark_is_found_behind_any_text(hidden: bool, text: str) -> None:
    mark = Mark(fingerprint(X86_SYSCTL_PANIC), crash_id(X86_SYSCTL_PANIC), digest(text))
    marked = f"{text}\n\n{mark.line(hidden=hidden)}"
    assert mark_of(marked) == mark
    assert mark_of(marked.replace("\n", "\r\n")) == mark
    assert digest(without_mark(marked)) == mark.digest


def test_fingerprints_are_one_word_for_any_search() -> None:
    assert fingerprint(X86_SYSCTL_PANIC).isalnum() and len(fingerprint(X86_SYSCTL_PANIC)) == 28


# fitting


LONG = Document(
    "Heading",
    (Paragraph("Lead."),),
    tuple(Section(f"Part {n}", (Lines(("x" * 100 * n,)),)) for n in range(1, 10)),
    (Paragraph("Tail."),),
)


@given(budget=st.integers(300, 6000))
def test_what_fits_is_kept_in_order_of_weight(budget: int) -> None:
    made = fitted(LONG, writer("plain"), len, budget)
    assert len(made) <= budget and "Lead." in made and made.endswith("Tail.")
    kept = [n for n in range(1, 10) if f"Part {n}\n" in made]
    told = made.partition("Left out for length: ")[2]
    assert all((n in kept) != (f"Part {n}" in told) for n in range(1, 10))


def test_commands_of_a_sentence() -> None:
    assert pieces("run `ls` now") == [("run ", False), ("ls", True), (" now", False)]
    assert pieces("one ` alone") == [("one ` alone", False)]


# targets


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("github:a/b", Target("github", "a/b")),
        ("github:a/b.c#12", Target("github", "a/b.c", "12")),
        ("gitlab:a/b/c#3", Target("gitlab", "a/b/c", "3")),
        ("jira:MEM", Target("jira", "MEM")),
        ("jira:MEM-12", Target("jira", "MEM", "MEM-12")),
        ("redmine:memory#4", Target("redmine", "memory", "4")),
        ("bugzilla:Fleet/Some Memory#5", Target("bugzilla", "Fleet/Some Memory", "5")),
        ("rt:DC hardware#6", Target("rt", "DC hardware", "6")),
        ("roundup:", Target("roundup", "")),
        ("roundup:#7", Target("roundup", "", "7")),
        ("file:a/b", Target("file", "a/b")),
        ("link:github:a/b", Target("link", "a/b")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "github", "github:", "github:a", "github:a/b/c", "github:a/b#x", "github:a/b#1/../2",
        "github:../b", "github:a/..", "gitlab:a", "gitlab:a/../b", "gitlab:a/b?x", "jira:mem", "jira:MEM#1",
        "jira:MEM-1-2", "redmine:A B", "redmine:a/../b", "bugzilla:Fleet", "rt:", "rt:a\nb", "roundup:x",
        "link:gitlab:a/b", "link:github:a", "file:", "nope:x",
    ],
)  # fmt: skip
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert "--to" in caught.value.remedy


# settings


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://tickets.example.com", "in the clear"),
        ("ftp://x", "no address"),
        ("tickets.example.com", "no address"),
        ("https://user:pw@x.example", "more than the address"),
        ("https://x.example/?a=b", "more than the address"),
        ("https://[::1", "no address"),
        ("https://x:99999", "no address"),
    ],
)
def test_addresses_that_are_refused(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        checked_url(url, "X_URL")
    assert "pw" not in str(caught.value) + caught.value.remedy


@pytest.mark.parametrize(
    "url", ["https://x.example/jira/", "http://127.0.0.1:80", "http://[::1]:9"]
)
def test_addresses(url: str) -> None:
    assert checked_url(url, "X_URL") == url.rstrip("/")


@pytest.mark.parametrize("name", SYSTEMS)
def test_secrets_may_lie_in_a_keyring(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = system(name).limits
    secret = next(v.name for v in limits.variables if v.secret)
    kept = {("mftriage", secret): "from-the-ring"}
    ring = SimpleNamespace(
        get_password=lambda service, entry: kept.get((service, entry)), __spec__=SimpleNamespace()
    )
    monkeypatch.setitem(sys.modules, "keyring", ring)
    given = {
        v.name: "https://x.example" if v.name.endswith("_URL") else "x"
        for v in limits.variables
        if not v.secret
    }
    assert settings(limits, given)[secret] == "from-the-ring"
    assert settings(limits, {**given, secret: "own"})[secret] == "own"


@pytest.mark.parametrize("value", ["two\nlines", "caf\u00e9", "nul\0"])
def test_secrets_that_no_header_can_hold(value: str) -> None:
    with pytest.raises(UsageError, match="characters that no such value has") as caught:
        settings(system("github").limits, {"GITHUB_TOKEN": value})
    assert value not in str(caught.value)

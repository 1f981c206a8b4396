"""What every ticket system must do, on servers that hold to the systems' documents."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import pytest

from mftriage.errors import TicketError, UsageError
from mftriage.model import Triage
from mftriage.tickets import http
from mftriage.tickets.attach import Outcome, attach, parcel
from mftriage.tickets.http import NotFound
from mftriage.tickets.identity import fingerprint, mark_of
from mftriage.tickets.target import parse
from tests.render.full import huge
from tests.render.samples import ARM64_GHES, X86_SYSCTL_PANIC
from tests.tickets.fakes import TOKEN, Fake, FakeGitHub, Fault

ELSEWHERE = replace(
    X86_SYSCTL_PANIC, dump=replace(X86_SYSCTL_PANIC.dump, crash_time="2026-12-01T00:00:00Z")
)
OTHER_PAGE = replace(X86_SYSCTL_PANIC, signature="2:unrecoverable-panic:page-table")
CHANGED = replace(X86_SYSCTL_PANIC, actions=("Look again.",))


packed = lru_cache(parcel)  # the same parcel for all systems


class Waits(list[float]):
    """Stands in for sleeping."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def send(fake: Fake, triage: Triage = X86_SYSCTL_PANIC, to: str = "", **options: Any) -> Outcome:
    waits = options.pop("waits", Waits())
    sent = packed(triage, options.pop("capsule", None))
    environment = {**fake.environment(), **options.pop("environment", {})}
    return attach(sent, parse(to or fake.to()), environment, wait=waits, **options)


def text(fake: Fake, number: int, at: int = 0) -> str:
    return json.dumps(fake.texts(number)[at], ensure_ascii=False)


# once


def test_a_new_fault_makes_a_ticket_with_its_files(fake: Fake) -> None:
    outcome = send(fake, capsule=b"\x28\xb5\x2f\xfd" * 1000)
    assert outcome.done == "created" and not outcome.closed and "1" in outcome.url
    assert list(fake.cases) == [1]
    title = fake.cases[1].title
    assert X86_SYSCTL_PANIC.dump.hostname in title
    body = text(fake, 1)
    assert fingerprint(X86_SYSCTL_PANIC) in body and "0x1741" in body
    if fake.holds_files:
        files = fake.files(1)
        assert [name.rpartition("-")[0] for name in sorted(files)] == [
            "mftriage-capsule", "mftriage-report", "mftriage-triage",
        ]  # fmt: skip
        assert set(files) == set(outcome.files)
        assert next(v for n, v in files.items() if "capsule" in n) == b"\x28\xb5\x2f\xfd" * 1000
        assert next(v for n, v in files.items() if "report" in n).startswith(b"<!")
    else:
        assert not outcome.files and not fake.files(1)


def test_a_second_run_changes_nothing(fake: Fake) -> None:
    send(fake)
    before = len(fake.changes())
    assert send(fake).done == "up to date"
    assert len(fake.changes()) == before


def test_a_report_that_has_changed_takes_the_place_of_the_old(fake: Fake) -> None:
    send(fake)
    assert "Look again" not in text(fake, 1)
    outcome = send(fake, CHANGED)
    assert list(fake.cases) == [1]
    if fake.edits:
        assert outcome.done == "updated"
        assert "Look again" in text(fake, 1)
        assert sum("Verdict" in text(fake, 1, at) for at in range(len(fake.texts(1)))) == 1
    else:
        assert outcome.done == "added to"
        assert any("Look again" in text(fake, 1, at) for at in range(len(fake.texts(1))))
    before = len(fake.changes())
    assert send(fake, CHANGED).done == "up to date"
    assert len(fake.changes()) == before


def test_the_same_fault_in_another_crash_is_told_on_the_same_ticket(fake: Fake) -> None:
    send(fake)
    outcome = send(fake, ELSEWHERE)
    assert outcome.done == "added to" and list(fake.cases) == [1]
    told = [t for t in range(len(fake.texts(1))) if "Seen again" in text(fake, 1, t)]
    assert len(told) == 1 and "2026" in text(fake, 1, told[0])
    assert send(fake, ELSEWHERE).done == "up to date"
    assert send(fake).done == "up to date"


def test_another_fault_is_another_ticket(fake: Fake) -> None:
    send(fake)
    assert send(fake, OTHER_PAGE).done == "created"
    assert send(fake, ARM64_GHES).done == "created"
    assert len(fake.cases) == 3


def test_a_ticket_that_is_named_gets_a_comment(fake: Fake) -> None:
    number = fake.foreign("the machine died")
    outcome = send(fake, to=fake.to(number))
    assert outcome.done == "added to" and list(fake.cases) == [number]
    assert "the machine died" in text(fake, number)
    assert fingerprint(X86_SYSCTL_PANIC) in text(fake, number, 1)
    assert send(fake, to=fake.to(number)).done == "up to date"


def test_a_closed_ticket_is_told_so(fake: Fake) -> None:
    send(fake)
    fake.cases[1].closed = True
    outcome = send(fake, ELSEWHERE)
    assert outcome.closed and "closed" in str(outcome) and list(fake.cases) == [1]


def test_what_a_person_has_edited_is_left_alone(fake: Fake) -> None:
    send(fake)
    if fake.markup == "adf":
        stored = fake.texts(1)[0]
        stored["content"][1]["content"][0]["text"] = "My words."
    else:
        fake.reword(1, fake.texts(1)[0].replace("panicked", "went down"))
    edited = text(fake, 1)
    assert send(fake, CHANGED).done == "added to"
    assert text(fake, 1) == edited
    assert any("Look again" in text(fake, 1, at) for at in range(1, len(fake.texts(1))))


def test_a_log_that_holds_another_faults_mark_is_not_its_ticket(fake: Fake) -> None:
    mark = parcel(X86_SYSCTL_PANIC).mark("0" * 12)
    lines = (mark.line(hidden=True), mark.line(hidden=False))
    record = replace(ARM64_GHES.hardware_errors[0], raw=lines)
    liar = replace(ARM64_GHES, hardware_errors=(record,), signature="2:no-crash:unknown")
    send(fake, liar)
    assert send(fake, X86_SYSCTL_PANIC).done == "created"


def test_update_adds_nothing(fake: Fake) -> None:
    with pytest.raises(TicketError, match="no ticket with mftriage"):
        send(fake, update_only=True)
    number = fake.foreign("mine")
    with pytest.raises(TicketError, match="nothing of this crash"):
        send(fake, to=fake.to(number), update_only=True)
    assert not fake.changes()
    send(fake)
    if fake.edits:
        assert send(fake, CHANGED, update_only=True).done == "updated"


# limits


@pytest.mark.parametrize("word", ["word ", "@x ", "{code} ", "漢字漢字漢字 "])
def test_a_huge_report_is_cut_with_a_note(fake: Fake, word: str) -> None:
    send(fake, huge(word, 30))
    body = text(fake, 1)
    assert "Left out for length" in body or (
        len(body) < 1_000_000 and fake.word in ("gitlab", "rt")
    )
    assert mark_of(fake.texts(1)[0] if fake.markup != "adf" else body.replace('"', "\n"))
    assert len(fake.cases[1].title) <= 256


def test_a_file_that_is_too_large_is_a_clear_error(fake: Fake) -> None:
    if not fake.holds_files:
        pytest.skip("holds no files")
    fake.file_limit = 1 << 20
    with pytest.raises((TicketError, UsageError), match=r"large|takes") as caught:
        send(fake, capsule=bytes(3 << 20))
    if isinstance(caught.value, TicketError):
        assert "created" in caught.value.message  # what was done is told
        assert len(fake.cases) == 1
    else:
        assert not fake.changes()
    assert "--capsule" in caught.value.remedy


def test_what_was_stored_is_compared(fake: Fake) -> None:
    make = fake.make
    fake.make = lambda title, body: make(title, _cut(body))  # type: ignore[method-assign]
    with pytest.raises(TicketError, match="not the one that was sent"):
        send(fake)


def _cut(body: Any) -> Any:
    return body[:300] if isinstance(body, str) else {**body, "content": body["content"][:2]}


# errors


def test_credentials_that_are_refused(fake: Fake) -> None:
    with pytest.raises(TicketError) as caught:
        send(fake, environment={fake.secret: "wr0ng-wr0ng"})
    assert fake.secret in caught.value.remedy or "API key" in caught.value.message
    assert "wr0ng" not in str(caught.value) + caught.value.remedy


def test_credentials_that_are_missing(fake: Fake) -> None:
    with pytest.raises(UsageError, match=f"{fake.secret} is not set"):
        send(fake, environment={fake.secret: ""})
    assert not fake.calls


def test_no_such_ticket(fake: Fake) -> None:
    with pytest.raises(NotFound, match="no such ticket"):
        send(fake, to=fake.to(99))
    assert not fake.changes()


def test_server_down(fake: Fake) -> None:
    environment = fake.environment()
    fake.close()
    waits = Waits()
    with pytest.raises(TicketError, match="can't be reached"):
        attach(packed(X86_SYSCTL_PANIC), parse(fake.to()), environment, wait=waits)
    assert waits == [1.0, 2.0, 4.0]


def test_slow_server(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_READ", 0.2)
    fake.faults = [Fault("GET", seconds=0.5) for _ in range(4)]
    with pytest.raises(TicketError, match=r"can't be reached.*timed out"):
        send(fake)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_reading_is_tried_again(fake: Fake, status: int) -> None:
    fake.faults = [
        Fault("GET", status=status, headers={"Retry-After": "7"}),
        Fault("GET", status=status),
    ]
    waits = Waits()
    assert send(fake, waits=waits).done == "created"
    assert waits == [7.0, 2.0]


def test_a_date_to_retry_after(fake: Fake) -> None:
    later = formatdate(time.time() + 20, usegmt=True)
    fake.faults = [Fault("GET", status=503, headers={"Retry-After": later})]
    waits = Waits()
    send(fake, waits=waits)
    assert 15 < waits[0] <= 20


def test_a_server_that_asks_for_an_hour_gets_it(fake: Fake) -> None:
    fake.faults = [Fault("GET", status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(TicketError, match="wait 3600 seconds"):
        send(fake)


def test_a_limit_of_requests_while_creating_is_waited_for(fake: Fake) -> None:
    fake.faults = [Fault("POST", status=429, headers={"Retry-After": "3"})]
    waits = Waits()
    assert send(fake, waits=waits).done == "created"
    assert 3.0 in waits and len(fake.cases) == 1


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_ticket_that_may_have_been_made_is_looked_for(
    fake: Fake, after: bool, drop: bool
) -> None:
    fake.faults = [Fault("POST", status=502, after=after, drop=drop)]
    assert send(fake).done == "created"
    assert len(fake.cases) == 1 and send(fake).done == "up to date"


@pytest.mark.parametrize("after", [True, False])
def test_a_comment_that_may_have_been_made_is_looked_for(fake: Fake, after: bool) -> None:
    number = fake.foreign("mine")
    fake.faults = [Fault("POST", status=502, after=after)]
    assert send(fake, to=fake.to(number)).done == "added to"
    told = sum(
        fingerprint(X86_SYSCTL_PANIC) in text(fake, number, at)
        and "Verdict" in text(fake, number, at)
        for at in range(len(fake.texts(number)))
    )
    assert told == 1


def test_a_server_that_fails_twice_is_told_with_what_is_not_known(fake: Fake) -> None:
    fake.faults = [Fault("POST", status=500), Fault("POST", status=500)]
    with pytest.raises(TicketError, match="may have done it") as caught:
        send(fake)
    assert "again" in caught.value.remedy and not fake.cases


def test_what_was_done_before_an_error_is_told(fake: Fake) -> None:
    if not fake.holds_files:
        pytest.skip("holds no files")
    place = {"gitlab": "uploads", "rt": "comment"}.get(fake.word, "attachment")
    fake.faults = [Fault("POST", place, status=403, body={"message": "No permission"})]
    with pytest.raises(TicketError, match=r"^created .* but then: .*403.*No permission"):
        send(fake)
    assert len(fake.cases) == 1
    assert send(fake).done == "updated"  # the rest is done now
    assert len(fake.cases) == 1 and len(fake.files(1)) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_credentials_do_not_follow_to_another_host(fake: Fake, status: int, method: str) -> None:
    other = FakeGitHub()
    try:
        fake.faults = [Fault(method, status=status, headers={"Location": f"{other.base}/x"})]
        with pytest.raises(TicketError, match="redirects") as caught:
            send(fake)
        assert not other.calls and TOKEN not in str(caught.value)
    finally:
        other.close()


def test_a_redirect_on_the_server_is_followed(fake: Fake) -> None:
    send(fake)
    first = next(call for call in fake.calls if call.method == "GET")
    place = f"{first.path}?{urlencode(first.query)}"
    fake.faults = [Fault("GET", status=302, headers={"Location": place})]
    assert send(fake).done == "up to date"


def test_redirects_in_a_circle(fake: Fake) -> None:
    fake.faults = [Fault("GET", status=302, headers={"Location": "/x"}) for _ in range(9)]
    with pytest.raises(TicketError, match="in a circle"):
        send(fake)


@pytest.mark.parametrize(
    "body", [b"<html>Log in</html>", b"[1, 2]", b'{"x": 1}', b"7", b"[" * 9999]
)
def test_an_answer_that_is_no_answer(fake: Fake, body: bytes) -> None:
    fake.faults = [Fault("GET", status=200, body=body)]
    with pytest.raises(TicketError, match=r"no JSON|not as in its documents") as caught:
        send(fake)
    assert fake.base in caught.value.remedy


# secrets


def test_secrets_are_never_shown(fake: Fake) -> None:
    """Not in a dry run, not where the server repeats them."""
    dry = send(fake, dry_run=True)
    shown = repr(dry)
    assert TOKEN not in shown and not fake.changes()
    fake.faults = [Fault("GET", status=400, body={"message": f"bad token {TOKEN}"})]
    with pytest.raises(TicketError) as caught:
        send(fake)
    assert TOKEN not in str(caught.value) and "***" in str(caught.value)


def test_a_dry_run_shows_all_requests(fake: Fake) -> None:
    dry = send(fake, dry_run=True)
    assert dry.done == "created" and not fake.changes()
    send(fake)
    sent = [(call.method, call.path) for call in fake.changes()]
    told = [
        (request.method, request.url.removeprefix(fake.base).partition("?")[0])
        for request in dry.unsent
    ]
    assert [method for method, _ in told] == [method for method, _ in sent]
    assert told[0] == sent[0]
    assert json.loads(dry.unsent[0].body) == fake.changes()[0].json

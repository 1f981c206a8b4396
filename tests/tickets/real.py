"""Real ticket systems, as processes of their own on loopback, and what each of them must live through."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mftriage.errors import TicketError
from mftriage.model import Triage
from mftriage.tickets import http
from mftriage.tickets.attach import Outcome, attach, parcel
from mftriage.tickets.http import NotFound
from mftriage.tickets.identity import fingerprint
from mftriage.tickets.target import parse
from tests.render.full import FULL
from tests.render.samples import ARM64_GHES
from tests.render.strategies import saturate

CAPSULE = os.urandom(3 << 20)
LATER = replace(ARM64_GHES, dump=replace(ARM64_GHES.dump, crash_time="2026-12-01T00:00:00Z"))
CHANGED = replace(ARM64_GHES, actions=("Look again at once.",))
ATTACK = (
    "\x1b[31m @everyone Closes #1 ![](http://x) !http://x/y.png! {code} </pre></script><script>x</script> "
    '\u202e /close {{macro}} {{>toc}} [[Wiki]] "a":http://x user#1 r12 issue1 msg1 bug 1 <!-- x -->'
)


class Real:
    """A server that runs: its address, its process, and how to read it without mftriage."""

    word = ""
    project = ""
    secret = ""

    def __init__(self, base: str, process: subprocess.Popen[bytes]) -> None:
        self.base = base
        self.process = process

    def environment(self) -> dict[str, str]:
        """The variables that mftriage needs."""
        raise NotImplementedError

    def view(self, number: str) -> tuple[str, list[str], dict[str, bytes]]:
        """The title, the texts and the files of a ticket, by the server's own words."""
        raise NotImplementedError

    def page(self, number: str) -> list[str]:
        """What a browser is shown of each text: HTML."""
        raise NotImplementedError

    def to(self, number: str | int | None = None) -> str:
        """A target."""
        return f"{self.word}:{self.project}" + ("" if number is None else f"#{number}")

    def send(
        self, triage: Triage = ARM64_GHES, number: str | int | None = None, **options: Any
    ) -> Outcome:
        """Attach, without waiting for anything."""
        environment = {**self.environment(), **options.pop("environment", {})}
        sent = parcel(triage, options.pop("capsule", None))
        target = parse(self.to(number))
        return attach(sent, target, environment, wait=lambda seconds: None, **options)


@contextmanager
def served(
    command: list[str], port: int, ready: str, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it answers at ``ready``, and end it."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        end = time.monotonic() + 90
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}{ready}", timeout=30).status_code < 500:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None and time.monotonic() < end, "the server did not start"
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# what every real server lives through, in this order


def number_of(outcome: Outcome) -> str:
    """The ticket's number, by its address."""
    return "".join(c for c in outcome.url.rpartition("/")[2] if c.isdigit())


def life(real: Real) -> None:
    """A ticket's life: made, found, left alone, attached to, seen again, changed."""
    made = real.send()
    number = number_of(made)
    assert made.done == "created" and len(made.files) == 2
    title, texts, files = real.view(number)
    assert "DIMM" in title and fingerprint(ARM64_GHES) in texts[0] and len(texts) == 1
    assert set(files) == set(made.files)
    assert next(v for n, v in files.items() if n.endswith(".html")).startswith(b"<!")

    assert real.send().done == "up to date"
    with_capsule = real.send(capsule=CAPSULE)
    assert with_capsule.done == "updated" and len(with_capsule.files) == 1
    assert CAPSULE in real.view(number)[2].values()

    again = real.send(LATER)
    assert again.done == "added to" and number_of(again) == number
    assert [("Seen again" in text) for text in real.view(number)[1]] == [False, True]
    assert real.send(LATER).done == "up to date"

    changed = real.send(CHANGED)
    assert changed.done == "updated" and number_of(changed) == number
    texts = real.view(number)[1]
    assert "Look again at once" in texts[0] and len(texts) == 2

    by_number = real.send(replace(CHANGED, signature="2:no-crash:x"), number)
    assert by_number.done == "added to" and len(real.view(number)[1]) == 3


def hostile(real: Real, allowed: Callable[[str], str]) -> None:
    """What a hostile report becomes in a browser: text."""
    number = number_of(real.send(saturate(FULL, ATTACK)))
    for shown in real.page(number):
        shown = allowed(shown)
        for bad in ("<a ", "<img", "<script", "<iframe", "href=", "onerror", 'class="macro"'):
            assert bad not in shown.lower(), shown[max(0, shown.lower().index(bad) - 200) :][:400]


def refusals(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors, each clear, and none half-done."""
    with pytest.raises(TicketError, match="refused the credentials") as caught:
        real.send(environment={real.secret: "wrong"})
    assert real.secret in caught.value.remedy
    with pytest.raises(NotFound, match="no such ticket"):
        real.send(number=9999)
    monkeypatch.setattr(http, "_READ", 0.3)
    real.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(TicketError, match=r"can't be reached.*timed out"):
            real.send()
    finally:
        real.process.send_signal(signal.SIGCONT)
    monkeypatch.undo()
    real.process.terminate()
    real.process.wait(20)
    with pytest.raises(TicketError, match="can't be reached"):
        real.send()


def write(path: Path, text: str) -> Path:
    """A file with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path

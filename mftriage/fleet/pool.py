"""Jobs in, outcomes out: so many at a time, each in a process of its own that may die."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Generator
from contextlib import closing, suppress
from typing import Any, NamedTuple

from mftriage.errors import MftriageError
from mftriage.fleet.job import Job, Outcome

__all__ = ["Done", "ForkServer", "Limits", "outcomes"]

_TICK = 1.0  # seconds
_TRIES = 2  # of a job whose fork server died
# The same modules from the same places, and none from the folder that the user happens to be in.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mftriage.fleet import zygote; "
    "zygote.main(*json.loads(sys.argv[2]))"
)


class Limits(NamedTuple):
    """What one job may take: seconds, and bytes of memory of its own."""

    seconds: float
    memory: int


class Done(NamedTuple):
    """A job that has ended; ``peak_bytes`` is the most memory that its process had."""

    job: Job
    outcome: Outcome
    seconds: float
    peak_bytes: int


def outcomes(todo: deque[Job], at_once: int, limits: Limits, lock: int) -> Generator[Done | None]:
    """Run jobs until none is left; ``None`` each second in which nothing ended.

    ``todo`` may grow meanwhile.  Workers inherit the descriptor ``lock``.  Jobs that run when the
    generator is closed are given up.
    Raises ``MftriageError`` where no worker can be started.
    """
    flying: dict[str, tuple[Job, int]] = {}
    again: deque[tuple[Job, int]] = deque()
    deaths = 0

    def fill() -> None:
        while (todo or again) and len(flying) < at_once:
            job, tries = again.popleft() if again else (todo.popleft(), 0)
            flying[job.key] = job, tries + 1
            server.ask(job)

    while todo or again:
        with closing(ForkServer(limits, lock)) as server:
            fill()
            while flying:
                answers = server.answers()
                if answers is None:
                    break
                ended = [
                    Done(flying.pop(key)[0], Outcome(*what), *took) for key, what, *took in answers
                ]
                if ended:
                    deaths = 0
                    fill()  # workers need not wait for what the caller does
                yield from ended if ended else (None,)
                fill()  # with what the caller has added
            else:
                continue
        deaths += 1
        if deaths > _TRIES:
            raise MftriageError(
                "the process that starts the analyses ends at once", "see what it wrote above"
            )
        for job, tries in flying.values():
            if tries < _TRIES:
                again.append((job, tries))
            else:
                reason = "the process that starts the analyses was killed, twice"
                yield Done(job, Outcome("failed", reason), 0.0, 0)
        flying.clear()


class ForkServer:
    """The fork server (``mftriage.fleet.zygote``), seen from its client."""

    def __init__(self, limits: Limits, lock: int | None = None) -> None:
        """``lock`` is a descriptor that it and its workers inherit."""
        self._control, theirs = socket.socketpair()
        self._heard = b""
        arguments = [theirs.fileno(), os.getpid(), *limits]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, json.dumps(sys.path), json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *([] if lock is None else [lock])),
                start_new_session=True,  # Ctrl-C is the batch's to handle
            )

    def close(self) -> None:
        """End it, and all that it runs."""
        self._control.close()  # upon which it ends its workers, and itself
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()  # and the kernel ends its workers
            self._process.wait()

    def ask(self, job: Job) -> None:
        """Have a job done."""
        with suppress(BrokenPipeError, ConnectionResetError):  # then there is no answer either
            self._control.sendall(json.dumps(job).encode() + b"\n")

    def answers(self) -> list[list[Any]] | None:
        """What has come within a second; ``None`` where nothing more will."""
        if not select.select([self._control], [], [], _TICK)[0]:
            return []
        try:
            data = self._control.recv(1 << 16)
        except ConnectionResetError:
            return None
        if not data:
            return None
        *lines, self._heard = (self._heard + data).split(b"\n")
        return [json.loads(line) for line in lines]

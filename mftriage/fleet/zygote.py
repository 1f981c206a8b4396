"""The fork server, a process that ``mftriage.fleet.pool`` starts.

It imports all that an analysis needs once, then forks a process for each dump: what an import
costs is paid once a batch, and no dump can harm another.  It never has a thread and never opens a
dump, so that a fork is clean.

Over a socket come jobs, a ``Job`` as JSON in each line, and each is answered with a line of its key,
its ``Outcome``, the seconds that it took and the bytes of memory.  When the other end goes away, it ends its workers
and itself; when it is killed, the kernel ends them.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pkgutil
import resource
import selectors
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import NoReturn

from mftriage.codec import dumps
from mftriage.fleet.job import Job, Outcome
from mftriage.fleet.worker import run
from mftriage.pattern import Pattern
from mftriage.render.html import style, template

__all__ = ["Zygote", "main", "warm_up"]

_MAX_SAID = 1 << 20  # bytes; a row has some kilobytes
_libc = ctypes.CDLL(None)
_GRACE = 5.0  # seconds that a killed process is waited for: one in a dead disk's driver stays
_PR_SET_PDEATHSIG = 1
# What an analysis imports where it needs it, and what that in turn does.
_WARM = ("dump", "kernel", "records", "render", "symbols", "verdict")
_LATE = (
    *("drgn.helpers.linux", "_drgn_util.plugins", "capstone", "gzip", "lzma", "zstandard"),
    *("platformdirs.unix", "_strptime", "heapq", "importlib.resources.readers", "mftriage.capsule"),
)


@dataclass
class _Worker:
    """A process that analyses one dump, seen from its parent."""

    key: str
    pid: int
    pipe: int
    started: float
    deadline: float
    killed: bool = False
    said: bytearray = field(default_factory=bytearray)


class Zygote:
    """The server: jobs come over ``control``, each may take so many seconds and bytes of memory."""

    def __init__(self, control: socket.socket, seconds: float, memory: int) -> None:
        self._control = control
        self._seconds = seconds
        self._memory = memory
        self._workers: list[_Worker] = []
        self._lost: list[int] = []
        self._asked = b""
        self._events = selectors.DefaultSelector()
        self._events.register(control, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until the other end goes away."""
        while True:
            for event, _ in self._events.select(self._until_next_deadline()):
                if event.data is not None:
                    self._hear(event.data)
                elif not self._accept():
                    return
            self._look_at_the_clock()

    def end(self) -> None:
        """End all workers."""
        for worker in self._workers:
            _kill(worker.pid)

    def _until_next_deadline(self) -> float | None:
        deadlines = [worker.deadline for worker in self._workers]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _accept(self) -> bool:
        """Take what is asked for; whether the other end is still there."""
        asked = self._control.recv(1 << 16)
        *jobs, self._asked = (self._asked + asked).split(b"\n")
        for job in jobs:
            self._start(Job(*json.loads(job)))
        return bool(asked)

    def _start(self, job: Job) -> None:
        reading, writing = os.pipe()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reading)
            os.close(writing)
            reason = f"no process can be started for its analysis: {error.strerror}"
            self._say(job.key, Outcome("failed", reason), 0.0, 0)
            return
        if pid == 0:
            self._control.close()
            _work(job, writing, self._memory, parent)
        os.close(writing)
        os.set_blocking(reading, False)
        now = time.monotonic()
        worker = _Worker(job.key, pid, reading, now, now + self._seconds)
        self._workers.append(worker)
        self._events.register(reading, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Worker) -> None:
        """Take what a worker says; once it says no more it has ended, or is made to."""
        with suppress(BlockingIOError):
            while data := os.read(worker.pipe, 1 << 16):
                worker.said += data
                if len(worker.said) > _MAX_SAID:
                    break
            _kill(worker.pid)
            _, status, usage = os.wait4(worker.pid, 0)
            self._answer(worker, self._outcome(worker, status), usage.ru_maxrss << 10)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        for worker in [worker for worker in self._workers if worker.deadline <= now]:
            if worker.killed:
                self._lost.append(worker.pid)
                reason = "its analysis can't be ended: it hangs in the kernel (a bad disk?)"
                self._answer(worker, Outcome("failed", reason), 0)
                continue
            worker.killed = True
            worker.deadline = now + _GRACE
            _kill(worker.pid)
        for pid in self._lost:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _outcome(self, worker: _Worker, status: int) -> Outcome:
        with suppress(ValueError, TypeError):
            return Outcome(*json.loads(worker.said))  # said in full, whatever came then
        if worker.killed:
            return Outcome("failed", f"its analysis took more than {self._seconds:g} s (--timeout)")
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            reason = "its analysis was killed, as the kernel does when memory runs out"
        elif code < 0:
            names = {number.value: number.name for number in signal.Signals}
            reason = f"its analysis crashed ({names.get(-code, -code)})"
        else:
            reason = f"its analysis ended without a result (exit code {code})"
        return Outcome("failed", reason)

    def _answer(self, worker: _Worker, outcome: Outcome, peak_bytes: int) -> None:
        self._workers.remove(worker)
        self._events.unregister(worker.pipe)
        os.close(worker.pipe)
        self._say(worker.key, outcome, time.monotonic() - worker.started, peak_bytes)

    def _say(self, key: str, outcome: Outcome, seconds: float, peak_bytes: int) -> None:
        answer = [key, outcome, round(seconds, 3), peak_bytes]
        self._control.sendall(json.dumps(answer).encode() + b"\n")


def _work(job: Job, pipe: int, memory: int, parent: int) -> NoReturn:
    """The worker: never returns into the server's loop, whatever happens."""
    try:
        os.setsid()
        _die_with(parent)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # rather this one than the batch
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Memory of one's own only: a file that libkdumpfile maps is none, however large it is.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):  # libraries have things to say
            os.dup2(null, number)
        said = dumps(run(job)).encode()
        while said:
            said = said[os.write(pipe, said) :]
    finally:
        os._exit(0)


def _die_with(parent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was sooner
        os._exit(1)


def _kill(pid: int) -> None:
    """End a worker with all that it started; it is a group of its own, or not yet one."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def warm_up() -> None:
    """Do what every analysis would do in the same way."""
    for name in _LATE:
        import_module(name)
    for name in _WARM:
        package = import_module(f"mftriage.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    template()
    style()
    for thing in gc.get_objects():
        if isinstance(thing, Pattern):
            _ = thing.compiled
    gc.collect()
    gc.freeze()  # a collection in a worker would copy every page of this


def main(control: int, parent: int, seconds: float, memory: int) -> None:
    """Serve over the descriptor ``control``, each job for so many seconds and bytes at most."""
    gc.disable()
    _die_with(parent)
    warm_up()
    zygote = Zygote(socket.socket(fileno=control), seconds, memory)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # the batch is over
            zygote.serve()
    finally:
        zygote.end()

"""The same jobs on an existing Dask cluster: one task a dump, each in a process of its own there.

A task may run twice (Dask runs it again when a worker dies): what it writes has names made of the
dump and the settings, and is written whole or not at all.  The batch alone writes the records.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mftriage import __version__
from mftriage.errors import UsageError
from mftriage.fleet.job import Job, Outcome
from mftriage.fleet.pool import Done, ForkServer, Limits

__all__ = ["outcomes"]

_TICK = 0.2  # seconds
_AHEAD = 4  # tasks a thread of the cluster has at hand, so that it never waits for the next
_CONNECT = 15.0  # seconds
_TRIES = 2  # fork servers that a task may lose
_local = threading.local()


def outcomes(todo: deque[Job], address: str, limits: Limits) -> Generator[Done | None]:
    """Run jobs on the cluster at ``address`` until none is left (see ``pool.outcomes``).

    Raises ``UsageError`` where there is no such cluster, or its workers can't do the work.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "--cluster needs the package distributed", "pip install 'mftriage[cluster]'"
        ) from error
    _reach(address)
    client: Any = Client(address, timeout=_CONNECT, set_as_default=False)  # type: ignore[no-untyped-call]
    flying: dict[Any, Job] = {}
    try:
        if todo:
            _check(client, Path(todo[0].out))
        while todo or flying:
            threads = sum(client.nthreads().values()) or 1
            while todo and len(flying) < _AHEAD * threads:
                job = todo.popleft()
                # never the answer of an earlier batch: a failed dump is tried again
                name = f"mftriage-{job.key}-{time.time_ns()}"
                flying[client.submit(_run, tuple(job), tuple(limits), key=name, pure=False)] = job
            ended = [future for future in flying if future.done()]
            for future in ended:
                yield _done(flying.pop(future), future)
            if not ended:
                yield None
                time.sleep(_TICK)
    finally:
        with suppress(Exception):  # of a cluster that is gone
            client.cancel(list(flying))
        client.close(timeout=2)


def _reach(address: str) -> None:
    """See that somebody listens there: a client that meets nobody takes its time to end.

    Raises ``UsageError``.
    """
    place = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        socket.create_connection((place.hostname or "", place.port or 8786), _CONNECT).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"there is no Dask scheduler at {address!r}: {getattr(error, 'strerror', None) or error}",
            "name it as dask scheduler prints it: --cluster tcp://HOST:8786",
        ) from error


def _done(job: Job, future: Any) -> Done:
    """What a future has to tell; the cluster's own trouble is the outcome of that one dump."""
    try:
        what, seconds, peak = future.result()
        return Done(job, Outcome(*what), seconds, peak)
    except Exception as error:
        reason = f"the cluster did not analyse it: {type(error).__name__}: {error}"
        return Done(job, Outcome("failed", reason[:500]), 0.0, 0)


def _check(client: Any, out: Path) -> None:
    """Make sure that all workers have this mftriage, and the folder of results.  Raises ``UsageError``."""
    token = out / f".cluster.{os.getpid()}"
    token.write_text(__version__)
    try:
        try:
            told: dict[str, tuple[str, bool]] = client.run(_told, str(token))
        except Exception as error:
            raise UsageError(
                f"the cluster's workers can't run mftriage: {type(error).__name__}: {error}",
                f"install mftriage {__version__} on them: see docs/cluster.md",
            ) from error
    finally:
        token.unlink(missing_ok=True)
    for worker, (version, sees) in told.items():
        if version != __version__:
            raise UsageError(
                f"the worker {worker} has mftriage {version}, and this is {__version__}",
                "install the same version everywhere",
            )
        if not sees:
            raise UsageError(
                f"the worker {worker} does not see the folder {str(out)!r}",
                "name a folder that all workers share: --out DIR",
            )


def _told(token: str) -> tuple[str, bool]:
    """On a worker: its version, and whether it sees the batch's folder."""
    return __version__, Path(token).exists()


def _run(job: tuple[Any, ...], limits: tuple[float, int]) -> tuple[tuple[Any, ...], float, int]:
    """On a worker: one job in a process of its own, within the limits.  Each thread has a fork server."""
    wanted = Job(*job)
    servers: dict[Limits, ForkServer] = _local.__dict__.setdefault("servers", {})
    for _ in range(_TRIES):
        server = servers.get(Limits(*limits))
        if server is None:
            server = servers[Limits(*limits)] = ForkServer(Limits(*limits))
        server.ask(wanted)
        while (answers := server.answers()) is not None:
            for key, what, seconds, peak in answers:
                if key == wanted.key:
                    return tuple(what), seconds, peak
        servers.pop(Limits(*limits)).close()
    return ("failed", "the process that starts the analyses was killed, twice", None), 0.0, 0

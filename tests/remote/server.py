"""A web server of files by ranges, as slow and as faulty as a test wants it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[["Handler", int, int], bool]


@dataclass
class Shelf:
    """What a server has, and what it is to do: ``fault`` may answer a GET itself, and says whether it did."""

    files: dict[str, Path] = field(default_factory=dict)
    delay: float = 0.0
    etag: str = '"one"'
    fault: Fault | None = None
    ranges: bool = True
    gets: int = 0
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    shelf: Shelf

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""

    def do_HEAD(self) -> None:
        """Answer a HEAD."""
        if (path := self._path()) is not None:
            self.head(200, path.stat().st_size)

    def do_GET(self) -> None:
        """Answer a GET."""
        path = self._path()
        if path is None:
            return
        size = path.stat().st_size
        start, end, status = 0, size, 200
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found and self.shelf.ranges:
            start = int(found[1])
            end = min(int(found[2]) + 1, size) if found[2] else size
            status = 206
        with self.shelf.lock:
            self.shelf.gets += 1
        if self.headers.get("If-Match") not in (None, self.shelf.etag):
            self.head(412, 0)
            return
        if self.shelf.fault is not None and self.shelf.fault(self, start, end):
            return
        self.head(status, end - start, start, size)
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        self.wfile.write(data)
        with self.shelf.lock:
            self.shelf.sent += len(data)

    def head(self, status: int, length: int, start: int = 0, size: int = 0) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", self.shelf.etag)
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 10:00:00 GMT")
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{size}")
        self.end_headers()

    def _path(self) -> Path | None:
        time.sleep(self.shelf.delay)
        path = self.shelf.files.get(self.path)
        if path is None:
            self.head(404, 0)
        return path


@contextmanager
def serving(shelf: Shelf) -> Iterator[Shelf]:
    """Serve ``shelf`` at its ``url`` for as long as the context lasts."""
    handler = type("Served", (Handler,), {"shelf": shelf})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    shelf.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield shelf
    finally:
        server.shutdown()
        server.server_close()

"""Files in object stores and on web servers, read by ranges: a dump is never downloaded whole.

obstore speaks s3://, gs://, az:// and http(s)://.  Credentials come from where each provider's own
tools take them: AWS_ACCESS_KEY_ID and the like, AWS_ENDPOINT_URL for other servers that speak S3,
GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME and _KEY; or from the machine's own role.
"""

from __future__ import annotations

import io
import os
import random
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from mftriage.errors import DumpError, UsageError
from mftriage.text import clean

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from obstore.store import ObjectStore

# An analysis takes a few MB out of all corners of a dump.  Measured (docs/remote.md): smaller blocks
# take fewer bytes and more requests, and a request costs as much as a megabyte.
_BLOCK = 64 << 10
_KEPT = 64 << 20  # bytes of blocks that are kept
_MOST_AHEAD = 4  # blocks
_PART = 1 << 20  # bytes of a request: more are several at once
_STREAM = 4 << 20  # bytes that a stream asks for at a time
_CONNECTIONS = 8
_TRIES = 5
_PATIENCE = 60.0  # seconds for one read, with all its tries
_REQUEST = 20.0  # seconds for one request

_STATUS = re.compile(r"\b(?:status(?: code)?:? |HTTP status [a-z ]*\()?(4\d\d|5\d\d) ?[A-Z]")


class Meta(NamedTuple):
    """What a listing or a HEAD says of an object; ``modified`` in seconds since 1970."""

    size: int
    etag: str | None
    modified: float


def shown(url: str) -> str:
    """The URL as it may be shown and kept: without a password in front of the host."""
    return re.sub(r"(?<=://)[^/@]*@", "", clean(url))


def store_of(url: str) -> tuple[ObjectStore, str]:
    """The store that ``url`` lies in, and the object's name there.  Raises ``UsageError``."""
    from obstore.exceptions import BaseError
    from obstore.store import HTTPStore, from_url

    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise UsageError(
            f"a signed link or a query can't be read in place: {shown(url.split('?')[0])!r}",
            "download the dump, and name the file",
        )
    options: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=_REQUEST),
            "connect_timeout": timedelta(seconds=5),
            "allow_http": parts.scheme == "http" or _plain_endpoint(),
        },
        "retry_config": {
            "max_retries": _TRIES - 1,
            "retry_timeout": timedelta(seconds=_PATIENCE),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
        },
    }
    try:
        if parts.scheme in ("http", "https"):
            store: Any = HTTPStore.from_url(f"{parts.scheme}://{parts.netloc}", **options)
        else:
            store = from_url(f"{parts.scheme}://{parts.netloc}", **options)
    except (BaseError, ValueError) as error:
        raise UsageError(
            f"{shown(url)!r} can't be opened: {_words(error)}", "check the URL and its credentials"
        ) from error
    return store, unquote(parts.path.lstrip("/"))


def listing_store(url: str) -> tuple[ObjectStore, str]:
    """The store that ``url`` lies in, and what the names below it begin with.  Raises ``UsageError``."""
    if url.lower().startswith(("http://", "https://")):
        raise UsageError(
            f"a web server does not list what it has: {shown(url)!r}",
            "name a single dump of it, or the bucket: s3://, gs://, az://",
        )
    return store_of(url)


def open_remote(url: str) -> RangeFile:
    """The object at ``url``.  Raises ``DumpError`` or ``UsageError``."""
    store, name = store_of(url)
    if not name or name.endswith("/"):
        raise UsageError(
            f"{shown(url)!r} names a bucket or a folder, and no dump",
            "name one object; for all of them: mftriage batch URL --out DIR",
        )
    from obstore.exceptions import BaseError

    try:
        found = store.head(name)
    except (BaseError, OSError) as error:  # what is not found is a FileNotFoundError
        raise failure(error, url) from error
    return RangeFile(store, name, url, _meta(found))


def _meta(found: Any) -> Meta:
    return Meta(int(found["size"]), found["e_tag"], found["last_modified"].timestamp())


class RangeFile:
    """An object, read by ranges and kept by blocks (see ``mftriage.files.RandomFile``).

    Each answer is checked against what was asked for, and against the object as it was when it was
    opened.  ``failure`` is the first error: from then on every read fails with it, so that no
    result is made of half a dump.  ``requests`` and ``bytes_read`` tell what it cost.
    """

    def __init__(self, store: ObjectStore, name: str, url: str, meta: Meta) -> None:
        self._store = store
        self._name = name
        self._url = url
        self._known = meta
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next, self._run = -1, 0  # the block that a read of the whole would want next
        self._pool: ThreadPoolExecutor | None = None
        self._first_failure: DumpError | None = None
        self.requests = 0
        self.bytes_read = 0

    @property
    def failure(self) -> DumpError | None:
        """See ``RandomFile``."""
        return self._first_failure

    @property
    def size(self) -> int:
        """See ``RandomFile``."""
        return self._known.size

    def pread(self, size: int, offset: int) -> bytes:
        """See ``RandomFile``."""
        end = min(offset + size, self.size)
        if size <= 0 or offset < 0 or offset >= end:
            return b""
        first, last = offset // _BLOCK, (end - 1) // _BLOCK
        numbers = range(first, last + 1)
        missing = [number for number in numbers if number not in self._blocks]
        have: Mapping[int, bytes] = self._blocks
        if missing:
            # all at once, since what was kept may have to make room for what comes
            have = {n: self._blocks[n] for n in numbers if n in self._blocks}
            ahead = [n for n in self._ahead(missing) if n not in self._blocks]
            have = {**have, **self._get([*missing, *ahead])}
        for number in numbers:
            if number in self._blocks:
                self._blocks.move_to_end(number)
        whole = have[first] if first == last else b"".join(have[n] for n in numbers)
        start = offset - first * _BLOCK
        return whole[start : start + end - offset]

    def _ahead(self, missing: list[int]) -> range:
        """The blocks behind ``missing`` to take along: more, the longer it goes on without a jump."""
        self._run = min(_MOST_AHEAD, max(1, 2 * self._run)) if missing[0] == self._next else 0
        last = missing[-1]
        self._next = min(last + 1 + self._run, -(-self.size // _BLOCK))
        return range(last + 1, self._next)

    def stream(self) -> BinaryIO:
        """See ``RandomFile``."""
        return cast(BinaryIO, io.BufferedReader(_Stream(self), _PART))

    def close(self) -> None:
        """See ``RandomFile``."""
        self._blocks.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def spans(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several spans of the object at once, each as (start, end).  Raises ``DumpError``."""
        if len(spans) == 1:
            return [self._span(spans[0])]
        from concurrent.futures import ThreadPoolExecutor

        if self._pool is None:
            self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="mftriage-range")
        return list(self._pool.map(self._span, spans))

    def _get(self, missing: list[int]) -> dict[int, bytes]:
        """Fetch blocks, neighbours in one request."""
        spans: list[tuple[int, int]] = []
        for number in missing:
            start, end = number * _BLOCK, min((number + 1) * _BLOCK, self.size)
            if spans and spans[-1][1] == start and end - spans[-1][0] <= _PART:
                spans[-1] = spans[-1][0], end
            else:
                spans.append((start, end))
        found = {}
        for (start, _), data in zip(spans, self.spans(spans), strict=True):
            for at in range(0, len(data), _BLOCK):
                found[(start + at) // _BLOCK] = data[at : at + _BLOCK]
        self._blocks.update(found)
        while len(self._blocks) * _BLOCK > _KEPT:
            self._blocks.popitem(last=False)
        return found

    def _span(self, span: tuple[int, int]) -> bytes:
        from obstore import exceptions
        from obstore.exceptions import BaseError

        final = (
            FileNotFoundError,
            exceptions.NotSupportedError,
            exceptions.PermissionDeniedError,
            exceptions.PreconditionError,
            exceptions.UnauthenticatedError,
        )
        until = time.monotonic() + _PATIENCE
        for attempt in range(_TRIES):
            if self.failure is not None:
                raise self.failure
            try:
                data, found = self._request(span)
            except (BaseError, OSError) as error:
                if isinstance(error, final) or attempt == _TRIES - 1 or time.monotonic() > until:
                    raise self._failed(failure(error, self._url)) from error
            else:
                if (found.size, found.etag) != (self._known.size, self._known.etag):
                    raise self._failed(_changed(self._url))
                if len(data) == span[1] - span[0]:
                    return data
            time.sleep(min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))
        raise self._failed(
            DumpError(
                f"the server gives less of {shown(self._url)!r} than it says that there is",
                "try again later, or download the dump, and name the file",
            )
        )

    def _request(self, span: tuple[int, int]) -> tuple[bytes, Meta]:
        etag = self._known.etag
        options: dict[str, Any] = {"range": span}
        if etag is not None and not etag.startswith(
            "W/"
        ):  # which matches nothing (RFC 9110, 13.1.1)
            options["if_match"] = etag
        answer = self._store.get(self._name, options=options)  # type: ignore[arg-type]
        data = bytes(answer.bytes())
        self.requests += 1
        self.bytes_read += len(data)
        return (data if tuple(answer.range) == span else b""), _meta(answer.meta)

    def _failed(self, error: DumpError) -> DumpError:
        self._first_failure = self._first_failure or error
        return self._first_failure


class _Stream(io.RawIOBase):
    """A ``RangeFile`` from its start, several parts ahead; none of it is kept as blocks."""

    def __init__(self, file: RangeFile) -> None:
        self._file = file
        self._at = 0
        self._ahead = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """To where it is, and to the start."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to ``offset``."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if base + offset != self._at:
            self._at, self._ahead = base + offset, b""
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as what came in goes."""
        if not self._ahead:
            end = min(self._at + _STREAM, self._file.size)
            spans = [(s, min(s + _PART, end)) for s in range(self._at, end, _PART)]
            self._ahead = b"".join(self._file.spans(spans)) if spans else b""
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        self._ahead = self._ahead[count:]
        self._at += count
        return count

    def close(self) -> None:
        """Let go of the object."""
        if not self.closed:
            self._file.close()
        super().close()


def _plain_endpoint() -> bool:
    """Whether the user named an S3 server that is reached without TLS."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_ENDPOINT")
    return any(os.environ.get(name, "").startswith("http://") for name in names)


def _changed(url: str) -> DumpError:
    return DumpError(
        f"{shown(url)!r} changed while it was read", "try again once it is written whole"
    )


def failure(error: Exception, url: str) -> DumpError:
    """A store's error in one sentence."""
    from obstore import exceptions

    name = repr(shown(url))
    if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
        return DumpError(f"there is no object {name}", "check the URL; it may be gone meanwhile")
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return _denied(name)
    if isinstance(error, exceptions.PreconditionError):
        return _changed(url)
    if isinstance(error, exceptions.NotSupportedError):
        return DumpError(
            f"the server of {name} does not give parts of a file",
            "download the dump, and name the file",
        )
    status = _STATUS.search(str(error))
    if status and status[1] in ("401", "403"):
        return _denied(name)
    return DumpError(f"can't read {name}: {_words(error)}", "try again later; check the network")


def _denied(name: str) -> DumpError:
    return DumpError(
        f"access to {name} is denied",
        "give credentials as your provider's own tools take them: see docs/remote.md",
    )


def _words(error: Exception) -> str:
    """What went wrong, of a message that is mostly the library's own insides."""
    text = str(error)
    if status := _STATUS.search(text):
        return f"the server answers {status[1]}"
    for sign, words in (
        ("TimedOut", "the server does not answer in time"),
        ("timed out", "the server does not answer in time"),
        ("dns error", "the host's name is not known"),
        ("ConnectionRefused", "the server refuses the connection"),
        ("Connect", "the server can't be reached"),
    ):
        if sign in text:
            return words
    return clean(text.splitlines()[0])[:200] if text else type(error).__name__

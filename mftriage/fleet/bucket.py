"""A bucket, or a part of one, as a source of dumps: listed page by page, and read in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import quote

from mftriage.errors import UsageError
from mftriage.fleet.source import Entry
from mftriage.remote import failure, listing_store, shown

__all__ = ["Bucket"]

_PAGE = 1000  # objects that a server lists at a time


class Bucket:
    """All objects below a URL such as ``s3://bucket/prefix/`` (see ``Source``)."""

    def __init__(self, url: str) -> None:
        """Raises ``UsageError`` for a URL that can't be listed."""
        self._url = url.rstrip("/") + "/"
        self._store, prefix = listing_store(self._url)
        self._prefix = prefix.rstrip("/")

    @property
    def location(self) -> str:
        """See ``Source``."""
        return self._url

    def local(self, name: str) -> AbstractContextManager[str]:
        """The object's URL, since it is read where it is."""
        return nullcontext(self._url + quote(name))

    def list(self) -> Iterator[Entry]:
        """See ``Source``.  The results of a batch are passed over."""
        from obstore.exceptions import BaseError

        cut = len(self._prefix) + 1 if self._prefix else 0
        try:
            for page in self._store.list(self._prefix or None, chunk_size=_PAGE):
                for found in page:
                    name = found["path"][cut:]
                    if not name or name.endswith("/"):
                        continue  # what consoles put there for a folder
                    modified = found["last_modified"].timestamp()
                    yield Entry(name, found["size"], found["e_tag"] or str(modified), modified)
        except (BaseError, OSError) as error:
            reason = failure(error, self._url)
            raise UsageError(
                f"can't list {shown(self._url)!r}: {reason.message}", reason.remedy
            ) from error

"""Regular expressions that cost nothing until a log has a line for them."""

from __future__ import annotations

import re
from collections.abc import Iterator


class Pattern:
    """A regular expression that is compiled when it is first used.

    A dozen formats bring fifty of them along, and most logs need none.
    """

    def __init__(self, source: str, flags: int = re.ASCII) -> None:
        self._source = source
        self._flags = flags

    @property
    def compiled(self) -> re.Pattern[str]:
        """The expression, compiled."""
        found = self.__dict__.get("_found")
        if found is None:
            found = re.compile(self._source, self._flags)
            # from now on the compiled methods stand in front of this class's
            self.__dict__.update(
                _found=found,
                search=found.search,
                match=found.match,
                findall=found.findall,
                finditer=found.finditer,
            )
        return found

    def search(self, text: str) -> re.Match[str] | None:
        """The first match anywhere in ``text``."""
        return self.compiled.search(text)

    def match(self, text: str) -> re.Match[str] | None:
        """The match at the start of ``text``."""
        return self.compiled.match(text)

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        """Every match in ``text``."""
        return self.compiled.finditer(text)

    def findall(self, text: str) -> list[tuple[str, ...]]:
        """The groups of every match; the expression has two groups at least."""
        return self.compiled.findall(text)

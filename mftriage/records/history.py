"""Corrected errors counted: how many, where, how fast, and what they share.

One error is often told three times: by the machine check, EDAC and firmware.  Records of different
sources, within two seconds and of one page, count as one event with the largest of their counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from mftriage.model import CorrectedErrors, HardwareError, Shared

_SECONDS = 2.0
_MAX_PLACES = 64
_OTHERS = "other places"
_LOCATED: tuple[Shared, ...] = ("row", "bank", "column", "device")
_SHARED: tuple[Shared, ...] = ("page", "row", "bank", "column", "device")


class _Event:
    def __init__(self, error: HardwareError) -> None:
        self.sources = {error.source}
        self.time = error.time
        self.page = _page(error)
        self.count = error.count or 1
        self.place, self.rank = _place(error)
        self.at: dict[Shared, int] = {} if self.page is None else {"page": self.page}
        for what in _LOCATED:
            value = getattr(error.location, what) if error.location else None
            if value is not None:
                self.at[what] = value


class _Place:
    def __init__(self) -> None:
        self.count = 0
        self.events = 0
        self.first: float | None = None
        self.last: float | None = None
        self.seen: dict[Shared, tuple[int, int]] = {}  # value, times
        self.differ: set[Shared] = set()


class History:
    """A count of corrected memory errors that records are added to, in the log's order."""

    def __init__(self) -> None:
        self._open: _Event | None = None
        self._places: dict[str, _Place] = {}

    def add(self, errors: Iterable[HardwareError]) -> None:
        """Count the corrected memory errors among ``errors``."""
        for error in errors:
            if error.severity != "corrected" or not error.is_memory or error.source == "cec":
                continue
            event = _Event(error)
            now = self._open
            if now is not None and _same(now, event):
                now.sources |= event.sources
                now.count = max(now.count, event.count)
                now.page = event.page if now.page is None else now.page
                now.at = event.at | now.at
                if event.place is not None and event.rank > now.rank:
                    now.place, now.rank = event.place, event.rank
            else:
                self._close()
                self._open = event

    def result(self) -> tuple[CorrectedErrors, ...]:
        """What was counted, the most frequent place first."""
        self._close()
        found = [
            CorrectedErrors(
                place=name,
                count=place.count,
                events=place.events,
                first=place.first,
                last=place.last,
                per_hour=_rate(place),
                same=tuple(
                    what
                    for what in _SHARED
                    if what not in place.differ and place.seen.get(what, (0, 0))[1] > 1
                ),
                scattered=tuple(what for what in _SHARED if what in place.differ),
            )
            for name, place in self._places.items()
        ]
        return tuple(sorted(found, key=lambda entry: -entry.count))

    def _close(self) -> None:
        event, self._open = self._open, None
        if event is None:
            return
        name = event.place or "place not known"
        if name not in self._places and len(self._places) >= _MAX_PLACES:
            name = _OTHERS
        place = self._places.setdefault(name, _Place())
        place.count += event.count
        place.events += 1
        if event.time is not None:
            place.first = event.time if place.first is None else min(place.first, event.time)
            place.last = event.time if place.last is None else max(place.last, event.time)
        for what, value in event.at.items():
            before, times = place.seen.get(what, (value, 0))
            place.seen[what] = before, times + 1
            if before != value:
                place.differ.add(what)


def corrected_history(errors: Iterable[HardwareError]) -> tuple[CorrectedErrors, ...]:
    """The count of the corrected errors among ``errors``."""
    history = History()
    history.add(errors)
    return history.result()


def _page(error: HardwareError) -> int | None:
    if error.physical_address:
        return int(error.physical_address, 16) >> 12
    if error.edac is not None and error.edac.page is not None:
        return int(error.edac.page, 16)
    return None


def _same(now: _Event, event: _Event) -> bool:
    near = now.time is None or event.time is None or abs(now.time - event.time) <= _SECONDS
    one_page = now.page is None or event.page is None or now.page == event.page
    return near and one_page and not now.sources & event.sources


def _place(error: HardwareError) -> tuple[str | None, int]:
    """The name of the place, and how much it is worth."""
    dimm, location, mce = error.dimm, error.location, error.mce
    if dimm is not None and (name := dimm.locator or dimm.label or " or ".join(dimm.candidates)):
        return name, 3
    if location is not None:
        parts = [
            f"{name.replace('_', ' ')} {value}"
            for name in ("node", "socket", "memory_controller", "card", "channel", "module", "slot")
            if (value := getattr(location, name)) is not None
        ]
        if parts:
            return ", ".join(parts), 2
    if mce is not None and mce.bank is not None:
        socket = f"socket {mce.socket}, " if mce.socket is not None else ""
        return f"{socket}machine-check bank {mce.bank}", 1
    return None, 0


def _rate(place: _Place) -> float | None:
    if place.events < 2 or place.first is None or place.last is None or place.last <= place.first:
        return None
    return round(place.count * 3600 / (place.last - place.first), 2)

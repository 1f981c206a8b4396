"""EDAC: errors by memory controller, with the DIMM's label.

drivers/edac/edac_mc.c, edac_ce_error and edac_ue_error: "EDAC MC0: 1 CE message on label
(location page:0x.. offset:0x.. grain:.. syndrome:0x.. - detail)"; before 3.6 "EDAC MC1: CE page
0x.., offset 0x.., grain 0, syndrome 0x.., row 6, channel 0, label "": amd64_edac".  The detail is
the driver's: APEI's location (ghes_edac), ADXL's decode (skx_common.c), or sb_edac.c's.
Page 0 stands for an address that is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from mftriage.log import LogRecord
from mftriage.model import Detail, EdacReport, HardwareError, Location, RecordDimm, hexed
from mftriage.pattern import Pattern

MARKERS = ("EDAC MC",)

_LINE = Pattern(r"EDAC MC(\d{1,9}): (?:(\d{1,9}) )?(CE|UE) (.*)")
_PANIC = Pattern(
    r"Kernel panic - not syncing: EDAC MC(\d{1,9}): ()(UE) (.*)|not syncing: ()()(UE) (.* on .*page:0x.*)"
)
_OLD = Pattern(
    r"(?:page 0x([0-9a-f]{1,16}), offset 0x([0-9a-f]{1,16}), grain (\d{1,9}),(?: syndrome 0x([0-9a-f]{1,16}),)? )?"
    r"(?:row (\d{1,9}), )?(?:channel(?:-a=)? ?(\d{1,9}),? )?(?:channel-b=? ?\d{1,9},? )?labels? \"([^\"]{0,255})\":? ?(.*)"
)
_NO_INFO = "- no information available: "
# sb_edac.c before 3.9: "1 Unknown error(s): memory read on FATAL area : cpu=0 Err=0001:0091 (ch=1), addr = 0x... => ..."
_OLD_ADDRESS = Pattern(r"\baddr = 0x([0-9a-f]{1,16}) =>")
_OLD_COUNT = Pattern(r"(\d{1,9}) (?:Unknown|Corrected|Uncorrected) error\(s\): (.*?)(?: : |$)")
_PAIR = Pattern(r"\b([A-Za-z_]{1,40}): ?(-?0x[0-9a-f]{1,16}|-?[0-9a-f]{1,16})\b")
_LABEL = Pattern(
    r"(?:CPU_SrcID#(\d+)_)?(?:(?:Ha|MC)#(\d+)_)?(?:SubMC#(\d+)_)?Chan(?:nel)?#(\d+)_(?:SubChan#(\d+)_)?DIMM#(\d+)"
)
_POSITION = Pattern(
    r"mc#(\d+)(?:csrow#(\d+))?(?:channel#(\d+))?(?:slot#(\d+))?(?:branch#\d+)?(?:memory#\d+)?"
)
NO_LABELS = ("", "unknown memory", "any memory", "unknown label", "any label")

# Names in front of the hyphen (edac_layer_name) are decimal; so are those of firmware (APEI location).
_LAYERS = {"channel": "channel", "slot": "slot", "csrow": "csrow"}
_CPER = {
    **{
        name: name for name in ("node", "card", "module", "rank", "bank", "device", "row", "column")
    },
    **{"bank_group": "bank_group", "bank_address": "bank_address", "chip_id": "chip_id"},
    **{"bit_position": "bit_position", "col": "column", "bit_pos": "bit_position"},
}
# sb_edac.c and skx before ADXL print rows and columns as bare hex, the rest as decimal; ADXL's
# numbers (drivers/acpi/acpi_adxl.c) all have 0x.
_DRIVER = {
    **{"socket": "socket", "imc": "memory_controller", "ha": "memory_controller", "rank": "rank"},
    **{"bg": "bank_group", "ba": "bank", "ProcessorSocketId": "socket", "ChannelId": "channel"},
    **{"MemoryControllerId": "memory_controller", "DimmSlotId": "slot", "Column": "column"},
    **{"PhysicalRankId": "rank", "Row": "row", "Bank": "bank", "BankGroup": "bank_group"},
    **{"SubchannelId": "sub_channel", "row": "row", "col": "column"},
}
_BARE_HEX = ("row", "col")
_IN_FRONT = _LAYERS | _CPER
_KEPT = frozenset(
    (
        *("err_code", "area", "SystemAddress", "ChannelAddress", "RankAddress", "channel_mask"),
        *("ChipSelect", "ChipId"),
    )
)
_MAX_DETAIL = 600
_MAX_VALUE = 40
_MAX_DIGITS = 18  # of 64 bits in hex


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every error that an EDAC driver gave to the core, oldest first."""
    found = []
    for record in log:
        match = _LINE.search(record.text)
        if match is not None:
            count = int(match[2]) if match[2] else None
            found.append(_error(record, int(match[1]), match[3], count, match[4]))
    return tuple(found)


class _Rest(NamedTuple):
    """What stands behind the count: read once, however often a storm says it."""

    places: dict[str, str]
    label: str | None
    message: str | None
    detail: str
    location: dict[str, int]
    details: tuple[Detail, ...] = ()
    counted: int | None = None
    address: int | None = None


@lru_cache(maxsize=256)
def _rest(rest: str) -> _Rest:
    count: int | None = None
    old = _OLD.match(rest)
    label: str | None
    address: int | None = None
    details: list[Detail] = []
    if old is not None:
        places = {"page": old[1], "offset": old[2], "grain": old[3], "syndrome": old[4]}
        label = " or ".join(part for part in old[7].split(":") if part)  # of an uncorrected one
        message, detail = None, old[8]
        location = {
            name: int(value)
            for name, value in (("csrow", old[5]), ("channel", old[6]))
            if value is not None
        } | _by_label(label)
        if told := _OLD_COUNT.match(detail):
            count, message = int(told[1]), told[2]
        if at := _OLD_ADDRESS.search(detail):
            address = int(at[1], 16)
    elif rest.startswith(_NO_INFO):
        places, label, message, detail, location = {}, None, rest[2:], "", {}
    else:
        head, paren, inside = rest.partition(" (")
        # labels and messages may hold parentheses themselves: the location's is the one with the page
        while paren and "page:" not in inside.partition(" (")[0] and " (" in inside:
            more, _, inside = inside.partition(" (")
            head = f"{head} ({more}"
        message, on, label = f" {head} ".partition(" on ")
        label = label.strip() if on else None
        before, _, detail = inside.partition(" - ")
        if not detail:
            before, _, detail = inside.partition(" -")
        detail = detail.removesuffix(")").strip()
        pairs = _PAIR.findall(before or inside)
        places = {name: value for name, value in pairs}
        words = _words(detail)
        location = _location(pairs if before else [], words, detail.startswith("APEI"))
        details = [Detail(name=name, value=value) for name, value in words if name in _KEPT]
    return _Rest(places, label, message, detail or "", location, tuple(details), count, address)


def _error(
    record: LogRecord, controller: int, kind: str, count: int | None, rest: str
) -> HardwareError:
    places, label, message, detail, location, details, told, address = _rest(rest)
    count = count if told is None else told
    page = _hex(places.get("page") or "0")
    offset = _hex(places.get("offset") or "0")
    syndrome = _hex(places.get("syndrome") or "")
    which: Literal["CE", "UE"] = "CE" if kind == "CE" else "UE"
    location = _by_label(label or "") | location
    overflow = "OVERFLOW" in (detail or "")
    return HardwareError(
        source="edac",
        medium="log",
        time=record.time,
        severity=_severity(which, f"{message} {detail}"),
        error_type=(message or "").strip() or f"memory error ({kind})",
        is_memory=True,
        physical_address=hexed(address),
        location=Location(**location) if location else None,  # type: ignore[arg-type]
        dimm=_dimm(label),
        count=count,
        edac=EdacReport(
            controller=controller,
            kind=which,
            count=count,
            message=(message or "").strip() or None,
            label=label,
            page=hexed(page) if page else None,
            offset=hexed(offset) if page else None,
            grain=_decimal(places.get("grain")),
            syndrome=hexed(syndrome),
            overflow=overflow,
            detail=detail[:_MAX_DETAIL] or None,
        ),
        details=details,
        raw=(record.text,),
    )


def _severity(kind: str, words: str) -> Literal["corrected", "deferred", "recoverable"]:
    """UE is all that is not corrected; the core prints deferred errors so too (edac_raw_mc_handle_error)."""
    if kind == "CE":
        return "corrected"
    return "deferred" if "Deferred" in words else "recoverable"


def driver_location(detail: str) -> dict[str, int]:
    """Where a driver's detail places an error, by the names of ``Location``."""
    return _location((), _words(detail), detail.startswith("APEI"))


def _words(detail: str) -> list[tuple[str, str]]:
    """The driver's "name:value" pairs, which blanks part."""
    text = detail.removeprefix("APEI location:").replace(": ", ":")
    parts = [word.partition(":") for word in text.split()]
    return [(name, value.rstrip(",;)")[:_MAX_VALUE]) for name, _, value in parts if value]


def _location(
    pairs: Iterable[tuple[str, ...]], words: Iterable[tuple[str, str]], apei: bool
) -> dict[str, int]:
    """Layers and firmware's words in front of the hyphen, the driver's behind it."""
    found: dict[str, int] = {}
    for name, value in pairs:
        if name in _IN_FRONT and (number := _decimal(value)) is not None:
            found.setdefault(_IN_FRONT[name], number)
    names = _CPER if apei else _DRIVER
    for name, value in words:
        if name not in names:
            continue
        bare = not apei and name in _BARE_HEX and not value.startswith("0x")
        number = _hex(value) if bare else _decimal(value)
        if number is not None and number >= 0:
            found.setdefault(names[name], number)
    return found


@lru_cache(maxsize=256)
def _by_label(label: str) -> dict[str, int]:
    names: tuple[str, ...]
    if match := _LABEL.match(label):
        names = ("socket", "memory_controller", "sub_mc", "channel", "sub_channel", "slot")
    elif match := _POSITION.match(label):
        names = ("mc", "csrow", "channel", "slot")
    else:
        return {}
    found = zip(names, match.groups(), strict=True)
    return {name: int(n[:9]) for name, n in found if n is not None and name not in ("mc", "sub_mc")}


@lru_cache(maxsize=256)
def _dimm(label: str | None) -> RecordDimm | None:
    """The label, which says little where nobody gave the driver one; several are joined by " or "."""
    label = (label or "").strip()
    if label in NO_LABELS:
        return None
    candidates = tuple(part.strip() for part in label.split(" or ") if part.strip())
    by_position = all(_POSITION.match(part) or _LABEL.match(part) for part in candidates)
    return RecordDimm(
        label=label if len(candidates) == 1 else None,
        how="driver-decode" if by_position else "edac-label",
        candidates=candidates if len(candidates) > 1 else (),
    )


def _decimal(text: str | None) -> int | None:
    try:
        return int(text or "", 0) if len(text or "") <= _MAX_DIGITS else None
    except ValueError:
        return None


def _hex(text: str) -> int | None:
    try:
        value = int(text, 16) if len(text) <= _MAX_DIGITS else -1
    except ValueError:
        return None
    return None if value < 0 else value  # "-d" is hexadecimal to int()

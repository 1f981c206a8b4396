"""PCIe errors that the kernel itself handled (AER): none of them is of memory.

drivers/pci/pcie/aer.c: "AER: Corrected error received" (aer_print_port_info; "Correctable error message
received from" since 6.10), then aer_print_error for each device: "PCIe Bus Error: severity=..., type=...,
(agent)" and "device [VVVV:DDDD] error status/mask=".  Bits by PCIe 6.0, 7.8.4.2 and 7.8.4.5, with the
kernel's names.  Firmware's own PCIe records are of ``ghes``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mftriage.log import LogRecord
from mftriage.model import Detail, HardwareError, Severity
from mftriage.pattern import Pattern

MARKERS = ("AER: ", "PCIe Bus Error", "error status/mask=")

_DEVICE = r"([\w.-]{1,32}) ([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): "
_RECEIVED = Pattern(
    _DEVICE
    + r"AER: (?:Multiple )?(Correct|Uncorrect)(?:ed|able)(?: \((Fatal|Non-Fatal)\))? error (?:message )?received(?: from|:) ?(\S{0,20})"
)
_ERROR = Pattern(
    _DEVICE
    + r"(?:AER: )?PCIe Bus Error: severity=(Correct|Uncorrect)(?:ed|able)(?: \((Fatal|Non-Fatal)\))?, type=([\w ]{1,40}),\s*(.{0,60})"
)
_STATUS = Pattern(
    _DEVICE
    + r"(?:AER: )?\s*device \[([0-9a-f]{4}):([0-9a-f]{4})\] error status/mask=([0-9a-f]{1,8})/([0-9a-f]{1,8})"
)
_CORRECTED = {
    **{0: "RxErr", 6: "BadTLP", 7: "BadDLLP", 8: "Rollover", 12: "Timeout", 13: "NonFatalErr"},
    **{14: "CorrIntErr", 15: "HeaderOF"},
}
_UNCORRECTED = {
    **{4: "DLP", 5: "SDES", 12: "TLP", 13: "FCP", 14: "CmpltTO", 15: "CmpltAbrt"},
    **{16: "UnxCmplt", 17: "RxOF", 18: "MalfTLP", 19: "ECRC", 20: "UnsupReq", 21: "ACSViol"},
    **{22: "UncorrIntErr", 23: "BlockedTLP", 24: "AtomicOpBlocked", 25: "TLPBlockedErr"},
    **{26: "PoisonTLPBlocked"},
}


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every error of a device, and every message of one of which no more is told, oldest first."""
    found: list[HardwareError] = []
    told = True  # whether the last message was followed by its error
    last: dict[str, int] = {}  # the newest error of each device
    for record in log:
        text = record.text
        if "PCIe Bus Error" in text and (match := _ERROR.search(text)):
            if not told:
                found.pop()
            told = True
            last[match[2]] = len(found)
            found.append(_record(record, match[2], match[3], match[4], match[5], match[6]))
        elif "status/mask" in text and (match := _STATUS.search(text)):
            at = last.pop(match[2], None)
            if at is not None:
                found[at] = _with_status(found[at], record, *(match[n] for n in range(3, 7)))
        elif "received" in text and (match := _RECEIVED.search(text)):
            told = False
            found.append(_record(record, match[5], match[3], match[4], None, ""))
    return tuple(found)


def _record(
    record: LogRecord, device: str, kind: str, level: str | None, layer: str | None, agent: str
) -> HardwareError:
    severity: Severity = (
        "corrected" if kind == "Correct" else "fatal" if level == "Fatal" else "recoverable"
    )
    details = [Detail(name="device", value=device)]
    if layer is not None:
        details.append(Detail(name="layer", value=layer))
    if agent.strip("() "):
        details.append(Detail(name="agent", value=agent.strip("() ")))
    return HardwareError(
        source="aer",
        medium="log",
        time=record.time,
        severity=severity,
        error_type=f"PCIe error of {device}" + (f" ({layer})" if layer else ""),
        is_memory=False,
        details=tuple(details),
        raw=(record.text,),
    )


def _with_status(
    error: HardwareError, record: LogRecord, vendor: str, device: str, status: str, mask: str
) -> HardwareError:
    """The error with the bits that are set and not masked."""
    names = _CORRECTED if error.severity == "corrected" else _UNCORRECTED
    bits = int(status, 16) & ~int(mask, 16)
    words = ", ".join(name for bit, name in names.items() if bits >> bit & 1)
    more = (
        Detail(name="ids", value=f"{vendor}:{device}"),
        Detail(name="status", value=f"0x{status}"),
        Detail(name="mask", value=f"0x{mask}"),
    )
    return replace(
        error,
        error_type=f"{error.error_type}: {words}" if words else error.error_type,
        details=(*error.details, *more),
        raw=(*error.raw, record.text),
    )

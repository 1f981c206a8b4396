"""CXL memory devices: what their driver says, and their events where tracing prints to the log.

drivers/cxl/core/ras.c (cxl_error_detected) prints to the log; drivers/cxl/core/trace.h has
cxl_general_media, cxl_dram, cxl_memory_module, cxl_poison and the AER events, which are there only with
tp_printk.  A DPA is the device's own address: it makes no page.  "hpa" is the host's.
"""

from __future__ import annotations

from collections.abc import Iterable

from mftriage.log import LogRecord
from mftriage.model import Detail, HardwareError, Severity
from mftriage.pattern import Pattern

MARKERS = ("cxl", "CXL")

_TRACE = Pattern(
    r"\b(cxl_(?:general_media|dram|memory_module|poison|generic_event|aer_uncorrectable_error|aer_correctable_error|port_aer_uncorrectable_error|port_aer_correctable_error)): (.*)"
)
_DRIVER = Pattern(
    r"(cxl\w*) ([\w:.]{1,64}): (.*(?:memdev disabled, abort error handling|frozen state error detected, disable CXL\.mem|failure state error detected, request disconnect).*)"
)
_PANIC = Pattern(r"Kernel panic - not syncing: (CXL \w+ error.*)")
_PAIR = Pattern(r"\b([a-z_]{2,32})=('[^']{0,200}'|\S{1,200})")
_HEX = Pattern(r"(?:0x)?([0-9a-f]{1,16})$")
_NO_ADDRESS = ("0xffffffffffffffff", "ffffffffffffffff", "0x0", "0")
_MEMORY = ("cxl_general_media", "cxl_dram", "cxl_poison")


def decode(log: Iterable[LogRecord]) -> tuple[HardwareError, ...]:
    """Every event of a CXL device that the log tells of, oldest first."""
    found = []
    for record in log:
        if match := _TRACE.search(record.text):
            found.append(_event(record, match[1], match[2]))
        elif match := _DRIVER.search(record.text):
            found.append(_plain(record, match[3].strip(), match[2]))
        elif match := _PANIC.search(record.text):
            found.append(_plain(record, match[1], None))
    return tuple(found)


def _event(record: LogRecord, name: str, text: str) -> HardwareError:
    pairs = {key: value.strip("'") for key, value in _PAIR.findall(text)}
    address = pairs.get("hpa")
    match = _HEX.match(address) if address and address not in _NO_ADDRESS else None
    severity: Severity | None = None
    if "uncorrectable" in name or "FATAL" in pairs.get("log", "").upper():
        severity = "fatal"
    elif "correctable" in name:
        severity = "corrected"
    elif "Uncorrectable" in pairs.get("descriptor", "") or "UNCORRECTABLE" in text:
        severity = "recoverable"
    return HardwareError(
        source="cxl",
        medium="log",
        time=record.time,
        severity=severity,
        error_type=name.replace("_", " ").replace("cxl", "CXL"),
        is_memory=True if name in _MEMORY else None if name == "cxl_memory_module" else False,
        physical_address=f"{int(match[1], 16):#x}" if match else None,
        details=tuple(Detail(name=key, value=value) for key, value in list(pairs.items())[:48]),
        raw=(record.text,),
    )


def _plain(record: LogRecord, words: str, device: str | None) -> HardwareError:
    return HardwareError(
        source="cxl",
        medium="log",
        time=record.time,
        severity="fatal",
        error_type=words,
        is_memory=False,
        details=(Detail(name="device", value=device),) if device else (),
        raw=(record.text,),
    )

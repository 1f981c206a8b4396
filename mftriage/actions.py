"""What to do next: sentences that rest on facts, the most urgent first.

Each says what to do and what it rests on.  A command stands in back-ticks, and can be typed as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from mftriage.dimm import is_position, is_slot
from mftriage.facts import Facts
from mftriage.model import (
    SYSCTL_OWNERS,
    CorrectedErrors,
    Dimm,
    HardwareError,
    PageInfo,
    Verdict,
    VerdictKind,
)
from mftriage.stack import site
from mftriage.text import parsed_utc

__all__ = ["MOST", "SYSCTL", "actions"]

MOST = 8
SYSCTL = "vm.panic_on_unrecoverable_memory_failure"

_BEFORE = timedelta(minutes=10)
_PCI = re.compile(r"[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{2}){1,2}\.[0-7]")
_HARDWARE = re.compile(r"Hardware name: (.{1,160})")
_UNSURE = ("unknown", "percpu")  # of per-CPU memory the sysctl covers the first chunk only
_WHOSE = "slab pages, page tables, large kmalloc and reserved pages"

_OUT_OF_SERVICE = "Keep the machine out of service until the memory is replaced or repaired."
_NOT_REPLACED = "Nothing to replace: the failure was injected by software."
_TEST = "Run a memory test after the repair (memtest86+ or the vendor's): one that finds nothing proves nothing."
_OFFLINE = "/sys/devices/system/memory/"


def actions(
    facts: Facts, verdict: Verdict, page: PageInfo | None, dimm: Dimm | None
) -> tuple[str, ...]:
    """At most eight things to do, the most urgent first; ``page`` and ``dimm`` are the verdict's."""
    case = _Case(facts, page, dimm)
    sentences = _PLANS[verdict.kind](case)
    return tuple(dict.fromkeys(sentence for sentence in sentences if sentence))[:MOST]


class _Case:
    """The facts, and the sentences that they allow; a sentence without its fact is ``None``."""

    def __init__(self, facts: Facts, page: PageInfo | None, dimm: Dimm | None) -> None:
        self.facts = facts
        self.page = page
        self.dimm = dimm
        self.left = facts.unrecovered()
        self.injected = page is not None and facts.is_injected(int(page.pfn, 16)) is True

    # what it was

    def save(self) -> str:
        """What is lost when somebody pulls modules first."""
        what = "this log" if self.facts.dump.symbols == "log-only" else "this dump (or its capsule)"
        return f"Save the BMC's event log and {what} before a module is moved."

    def part(self) -> str:
        """Which part to replace, or how to find out."""
        if self.dimm is None:
            return f"Look for the DIMM in the BMC's event log {self.window()}: no record here names it."
        return _replacement(self.dimm)

    def compare(self) -> str | None:
        """The second witness."""
        if self.dimm is None:
            return None
        return f"See whether the BMC's event log agrees, {self.window()}."

    def window(self) -> str:
        """Where to look in a log that has another clock: ten minutes up to the event, in UTC."""
        try:
            end = self._utc_of_event()
            start = end and end - _BEFORE
        except (ValueError, OverflowError):  # a damaged clock
            end = start = None
        if end is None or start is None:
            return "of the ten minutes before (the time in UTC is not known here)"
        day = "%Y-%m-%d %H:%M:%S"
        until = day if start.date() != end.date() else "%H:%M:%S"
        return f"from {start.strftime(day)} to {end.strftime(until)} UTC"

    def _utc_of_event(self) -> datetime | None:
        """When it crashed; without a crash, when the worst memory error came."""
        dump = self.facts.dump
        errors = _worst(r for r in self.facts.hardware_errors if r.is_memory is not False)
        if self.facts.panic is None and errors:
            now, up, then = parsed_utc(dump.crash_time), dump.uptime_seconds, errors[0].time
            if now is not None and up is not None and then is not None:
                return now - timedelta(seconds=round(up - then))
            return next((t for r in errors if (t := parsed_utc(r.wall_time))), None)
        crashed = parsed_utc(dump.crash_time)
        return crashed or next((t for r in errors if (t := parsed_utc(r.wall_time))), None)

    def repair(self) -> str | None:
        """Post-package repair, which replaces a row: of use where the errors are all in one."""
        entry = next((c for c in self.facts.corrected_errors if {"row", "page"} & {*c.same}), None)
        if entry is None:
            return None
        same = "row" if "row" in entry.same else "page"
        return (
            f"Ask the vendor for post-package repair (PPR): {_count(entry)} at {_said(entry.place)} lie in the same {same}. "
            "Firmware does it at a boot; Linux 6.15 and newer can for devices with "
            "`/sys/bus/edac/devices/*/mem_repair*`."
        )

    def offline(self) -> str | None:
        """How to run a machine with the bad page, which a new boot knows nothing of."""
        size = self.facts.dump.page_size
        start = _start(self.page, size)
        owner = self.page and self.page.owner
        if start is None or size is None or (owner and owner.kind == "reserved"):
            return None  # firmware's own, or what boots the kernel
        if self.facts.dump.arch == "x86_64":
            return (
                f"To run the machine before the repair, keep the page out of use: boot with `memmap={size // 1024}K${start:#x}` "
                "(GRUB wants `\\$`)."
            )
        return f"To run the machine before the repair, take the page out of use right after each boot: `echo {start:#x} > {_OFFLINE}hard_offline_page`."

    def soft_offline(self) -> str | None:
        """How to leave a page whose corrected errors come again, as long as it can be read."""
        if not any("page" in entry.same for entry in self.facts.corrected_errors):
            return None
        size = self.facts.dump.page_size
        pages = {
            int(r.physical_address, 16) // size * size
            for r in self.facts.hardware_errors
            if size and r.severity == "corrected" and r.is_memory and r.physical_address
        }
        if len(pages) != 1:
            return None
        return (
            f"Take the page of the repeated corrected errors out of use: `echo {pages.pop():#x} > {_OFFLINE}soft_offline_page` "
            "(its content moves, nothing is lost)."
        )

    def firmware(self) -> str:
        """Whose release notes to read."""
        lines = (_HARDWARE.search(record.text) for record in reversed(self.facts.log))
        name = next((match[1].strip() for match in lines if match), None)
        of = f"this machine ({_said(name)})" if name else "this machine"
        return f"Look for a newer firmware of {of}, and in its notes for known memory faults."

    def watch(self) -> str | None:
        """Where the next errors would show."""
        entry = next(iter(self.facts.corrected_errors), None)
        where = entry.place if entry else self.dimm and (self.dimm.locator or self.dimm.label)
        if entry is None and where is None:
            return None
        why = f"{_count(entry)} so far" if entry else "an uncorrected error was handled there"
        return f"Watch {_said(where or '')}: {why}; rasdaemon and `/sys/devices/system/edac/mc/mc*/*_count` show more."

    def stack(self) -> str | None:
        """Where the crash itself leads."""
        panic = self.facts.panic
        if panic is None:
            return None
        function = site(panic.trace)
        return f", starting at {_said(function)}" if function else ""

    def catch(self) -> str | None:
        """What would have stopped the machine at the failure, before it did harm."""
        if not self.left or any(event.panicked for event in self.left):
            return None
        kind = self.page.owner.kind if self.page and self.page.owner else "unknown"
        stops = kind in SYSCTL_OWNERS and kind not in _UNSURE
        value = self.facts.sysctl
        if value:
            return f"Nothing more to set: {SYSCTL} is {value} already, and the kernel did not stop at this failure."
        effect = (
            f"would have stopped the machine at this failure, of a {kind.replace('-', ' ')} page"
            if stops
            else f"stops the machine at failures of {_WHOSE}"
        )
        if value == 0:
            return (
                f"Set {SYSCTL}, which is 0 in this kernel: `sysctl -w {SYSCTL}=1`, and `{SYSCTL} = 1` in "
                f"/etc/sysctl.d/60-memory-failure.conf. It {effect}."
            )
        if kind not in _UNSURE and not stops:
            return None
        if self.facts.has_sysctl is False:
            return (
                f"Plan for Linux 7.3 or newer: its {SYSCTL} {effect}. This kernel does not have it."
            )
        alone = " from the log alone" if self.facts.dump.symbols == "log-only" else " here"
        return (
            f"Set {SYSCTL} to 1 where the kernel has it (Linux 7.3 and newer): it {effect}. "
            f"Whether it was on is not known{alone}."
        )


def _by_memory(case: _Case) -> Iterator[str | None]:
    if case.injected:
        yield _NOT_REPLACED
        yield case.catch()
        return
    yield _OUT_OF_SERVICE
    yield case.save()
    yield case.part()
    yield case.catch()
    yield case.compare()
    yield case.offline()
    yield case.repair()
    yield _TEST
    yield case.firmware()


def _possibly(case: _Case) -> Iterator[str | None]:
    pages = ", ".join(dict.fromkeys(event.pfn for event in case.left[:4]))
    bad = f"page {pages}" if pages else "bad memory"
    if case.injected:
        yield _NOT_REPLACED
    else:
        yield f"Treat the machine as suspect: {bad} was left in use before it crashed, and nothing shows whether that was why."
        yield case.save()
        yield case.part() if case.dimm is None else _tested(case.dimm)
    yield f"Look at the crash as one of software as well{case.stack() or ''}."
    yield case.catch()
    if not case.injected:
        yield case.compare()
        yield case.offline()


def _elsewhere(case: _Case) -> Iterator[str | None]:
    yield f"Look for the cause in the crash itself{case.stack() or ''}: memory does not explain it."
    if case.injected:
        yield _NOT_REPLACED
    elif case.left:
        yield f"Have the memory tested all the same: page {case.left[-1].pfn} had failed and was left in use."
        yield case.part() if case.dimm is None else _tested(case.dimm)
    elif case.facts.memory_failures:
        yield "Look after the memory at the next maintenance: an uncorrected error was handled before the crash."
        yield case.part() if case.dimm is None else _tested(case.dimm)
    yield case.catch()
    yield case.repair()
    yield case.watch()


def _not_memory(case: _Case) -> Iterator[str | None]:
    errors = _worst(r for r in case.facts.hardware_errors if r.is_memory is not True)
    what = next((r.error_type for r in errors if r.error_type), None)
    yield "Leave the memory modules where they are: " + (
        f"the record is of another part ({_said(what)})." if what else "no record blames them."
    )
    yield next((place for r in errors if (place := _part_of(r))), None)
    yield f"Read the BMC's event log {case.window()}: it may name the part."
    yield case.firmware().replace("memory faults", "faults of it")


def _running(case: _Case) -> Iterator[str | None]:
    facts = case.facts
    if case.left:
        page = case.page
        owner = page and page.owner and page.owner.kind.replace("-", " ")
        which = (
            f"page {page.pfn}" + (f", {owner} page" if owner and owner != "unknown" else "")
            if page
            else ""
        )
        yield (
            "Plan a reboot: bad memory is still in use by the kernel"
            + (f" ({which})" if which else "")
            + ", and can't be taken offline."
        )  # fmt: skip
        if case.injected:
            yield _NOT_REPLACED
        else:
            yield case.save()
            yield case.part()
        yield case.catch()
    elif case.injected:
        yield _NOT_REPLACED
    elif facts.memory_failures:
        yield "Nothing is urgent: the bad memory was taken out of use, until the next boot."
        part = case.part()
        yield f"At the next maintenance, {part[0].lower()}{part[1:]}" if case.dimm else part
    elif any(r.is_memory and r.severity != "corrected" for r in facts.hardware_errors):
        yield case.part()
    yield case.soft_offline()
    yield case.repair()
    yield case.watch() if not case.injected else None
    if not (facts.memory_failures or facts.hardware_errors or facts.corrected_errors):
        yield "Nothing to do: neither a crash nor a memory error was found."


def _unclear(case: _Case) -> Iterator[str | None]:
    for row in case.facts.not_checked[:1]:
        yield f"Get what is missing first: {_said(row.remedy)}"
    if any(r.is_memory and r.severity != "corrected" for r in case.facts.hardware_errors):
        yield case.save()
        yield case.part()
    yield case.catch()


_PLANS: dict[VerdictKind, Callable[[_Case], Iterable[str | None]]] = {
    "unrecoverable-panic": _by_memory,
    "fatal-hardware-error": _by_memory,
    "delayed-crash": _by_memory,
    "possible-delayed-crash": _possibly,
    "unrelated": _elsewhere,
    "hardware-not-memory": _not_memory,
    "no-crash": _running,
    "inconclusive": _unclear,
}


def _worst(records: Iterable[HardwareError]) -> list[HardwareError]:
    """The records of the worst severity first, of each the newest first."""
    order = ("fatal", "recoverable", "deferred", "corrected")
    return sorted(
        reversed([*records]), key=lambda r: order.index(r.severity) if r.severity else len(order)
    )


def _replacement(dimm: Dimm) -> str:
    """What to do about the DIMM, in one sentence."""
    if dimm.candidates:
        return f"Replace one of these DIMMs, which the records can't tell apart: {_said(', '.join(dimm.candidates))}."
    name = dimm.locator or dimm.label
    if name is None:
        return f"Find the DIMM with the SMBIOS handle {dimm.handle}, which the firmware names: `dmidecode -t 17`."
    return f"Replace {_said(name)}{_identity(dimm)}: {_how(dimm)} (how sure: {dimm.certainty or 'not known'})."


def _tested(dimm: Dimm) -> str:
    """As ``_replacement``, where the crash is not shown to be of the DIMM's making."""
    names = (
        dimm.locator
        or dimm.label
        or " and ".join(dimm.candidates)
        or f"the DIMM of handle {dimm.handle}"
    )
    return f"Test {_said(names)}{_identity(dimm)} and replace it if it fails: {_how(dimm)} of an uncorrected error."


def _identity(dimm: Dimm) -> str:
    model = " ".join(word for word in (dimm.manufacturer, dimm.part_number) if word)
    parts = [model, f"serial {dimm.serial_number}" if dimm.serial_number else ""]
    told = ", ".join(part for part in parts if part)
    return f" ({_said(told)})" if told else ""


def _how(dimm: Dimm) -> str:
    if is_position(dimm):
        return "the driver's position, which the board's manual turns into a slot"
    return "the firmware's own record names it" if is_slot(dimm) else "EDAC's label names it"


def _part_of(record: HardwareError) -> str | None:
    """Which part a record that is not of memory names."""
    device = record.firmware.device if record.firmware else None
    if device and _PCI.fullmatch(device):
        return f"Look at the device {device} and its slot: `lspci -vv -s {device}`."
    mce = record.mce
    if mce is None:
        return None
    socket = f"socket {mce.socket}" if mce.socket is not None else None
    where = ", ".join(
        p for p in (mce.unit, socket, f"CPU {mce.cpu}" if mce.cpu is not None else None) if p
    )
    return (
        f"Look at the processor first ({_said(where)}): its machine-check bank {mce.bank} reported it."
        if where
        else None
    )


def _said(text: str) -> str:
    """What a dump says, within a sentence whose back-ticks stand around commands."""
    return text.replace("`", "'")


def _count(entry: CorrectedErrors) -> str:
    return f"{entry.count} corrected error{'' if entry.count == 1 else 's'}"


def _start(page: PageInfo | None, size: int | None) -> int | None:
    if page is None or page.physical_address is None or not size:
        return None
    return int(page.physical_address, 16) // size * size

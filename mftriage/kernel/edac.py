"""EDAC's view of the DIMMs: labels, error counters, and the last error of each memory controller.

drivers/edac/edac_mc.c keeps every ``struct mem_ctl_info`` in the static list ``mc_devices``;
``error_desc`` in it is overwritten by each error (edac_mc_handle_error) and outlives the log.  The
core may be part of the image or the module edac_core: names and layout are then the module's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drgn import FaultError

from mftriage.kernel.search import is_number, search
from mftriage.kernel.system import Clock
from mftriage.model import HardwareError, RecordDimm, Severity, hexed
from mftriage.symbols import Kernel
from mftriage.text import clean

if TYPE_CHECKING:
    from mftriage.symbols.modules import Module

_MODULE = "edac_core"
_MAX_CONTROLLERS = 128
_MAX_DIMMS = 1024
_MAX_OFFSET = 1 << 16
_NO_HANDLE = (0, 0xFFFF)
_UNKNOWN_LABELS = ("", "unknown memory", "any memory")

# Members that are read, by struct; labels have their size in include/linux/edac.h.
_MEMBERS = {
    "mem_ctl_info": (
        *("link", "mc_idx", "tot_dimms", "dimms", "ctl_name", "ce_mc", "ue_mc"),
        *("ce_noinfo_count", "ue_noinfo_count", "error_desc"),
    ),
    "dimm_info": ("label", "nr_pages", "smbios_handle", "ce_count", "ue_count"),
    "edac_raw_error_desc": (
        *("location", "label", "error_count", "type", "page_frame_number", "offset_in_page"),
        *("grain", "syndrome", "msg"),
    ),
}
_LABEL_SIZE, _LABELS_SIZE, _LOCATION_SIZE = 32, 296, 256

# enum hw_event_mc_err_type, include/linux/edac.h.  The machine lived on past an uncorrected one.
_TYPES: dict[int, tuple[Severity | None, str]] = {
    0: ("corrected", "corrected error"),
    1: ("recoverable", "uncorrected error"),
    2: ("deferred", "deferred error"),
    3: ("fatal", "fatal error"),
    4: (None, "event"),
}

Layout = dict[str, dict[str, int]]


def edac_records_in_memory(kernel: Kernel, _clock: Clock | None) -> list[HardwareError]:
    """The last error of each controller, and a record for each counter that is not zero."""
    if not kernel.typed:
        return []
    head = kernel.address("mc_devices")
    place: dict[str, Any] | None = None
    if head is None:
        # Only the module's own names tell; without the module there is no EDAC at all.
        place = search(kernel.dump, "edac_core", lambda: _in_module(kernel), _is_place)
        if not place:
            return []
        if "why" in place:
            raise LookupError(place["why"])
        head = int(place["mc_devices"])
    if kernel.program.read_u64(head) == head:  # no driver found a memory controller
        return []
    layout: Layout = place["layout"] if place else _layout_of_types(kernel)
    found: list[HardwareError] = []
    for controller in _controllers(kernel, head, layout["mem_ctl_info"]["link"]):
        found += _records(kernel, controller, layout)
    return found


def _is_place(claim: dict[str, Any]) -> bool:
    """Whether a claim is what ``_in_module`` finds: an address with a layout, or a reason."""
    if claim.keys() == {"why"}:
        return isinstance(claim["why"], str)
    layout = claim["layout"]
    return is_number(claim["mc_devices"]) and all(
        is_number(layout[name][member], _MAX_OFFSET)
        for name, members in _MEMBERS.items()
        for member in members
    )


def _in_module(kernel: Kernel) -> dict[str, Any] | None:
    from mftriage.symbols.modules import find_module  # few kernels have EDAC as a module

    module = find_module(kernel, _MODULE)
    if module is None:
        return None
    try:
        head = module.lookup("mc_devices")
        if head is None:
            raise LookupError(f"module {_MODULE} has no symbol mc_devices")
        return {"mc_devices": head, "layout": _layout_of_module(kernel, module)}
    except FaultError as error:
        why = (
            f"memory of module {_MODULE} that is not in the dump is needed (at {error.address:#x})"
        )
    except LookupError as error:
        why = str(error.args[0])
    return {"why": why}  # kept by name, as all that a search finds


def _layout_of_types(kernel: Kernel) -> Layout:
    return {
        name: {
            member: kernel.program.type(f"struct {name}").member(member).offset
            for member in members
        }
        for name, members in _MEMBERS.items()
    }


def _layout_of_module(kernel: Kernel, module: Module) -> Layout:
    try:
        return _layout_of_types(kernel)
    except LookupError:
        pass
    layout = {name: module.struct_offsets(name) for name in _MEMBERS}
    for name, members in _MEMBERS.items():
        if missing := set(members) - set(layout[name]):
            raise LookupError(f"struct {name} has no {', '.join(sorted(missing))}")
    return layout


def _controllers(kernel: Kernel, head: int, link: int) -> Iterator[int]:
    """The address of each struct mem_ctl_info."""
    seen = {0, head}
    node = kernel.program.read_u64(head)
    while node not in seen and len(seen) < _MAX_CONTROLLERS:
        seen.add(node)
        yield node - link
        node = kernel.program.read_u64(node)


def _records(kernel: Kernel, controller: int, layout: Layout) -> Iterator[HardwareError]:
    program, at = kernel.program, layout["mem_ctl_info"]

    def number(member: str) -> int:
        return int(program.read_u32(controller + at[member]))

    name = f"mc{number('mc_idx')}"
    try:
        words = program.read_c_string(program.read_u64(controller + at["ctl_name"]), max_size=64)
        name += f" {clean(words)}"
    except FaultError:
        pass
    last = _last(kernel, controller + at["error_desc"], layout["edac_raw_error_desc"], name)
    if last is not None:
        yield last
    for member, severity in (("ce_noinfo_count", "corrected"), ("ue_noinfo_count", "recoverable")):
        yield from _counter(number(member), severity, None, f"{name}: {member}")
    count = min(number("tot_dimms"), _MAX_DIMMS)
    table = program.read_u64(controller + at["dimms"])
    for index in range(count):
        try:
            yield from _dimm(kernel, program.read_u64(table + 8 * index), layout, name)
        except FaultError:
            continue


def _dimm(kernel: Kernel, address: int, layout: Layout, controller: str) -> Iterator[HardwareError]:
    program, at = kernel.program, layout["dimm_info"]
    counts = [int(program.read_u32(address + at[name])) for name in ("ce_count", "ue_count")]
    if not any(counts):
        return
    label = _string(kernel, address + at["label"], _LABEL_SIZE)
    handle = int(program.read_u16(address + at["smbios_handle"]))
    dimm = RecordDimm(label=label or None, handle=None if handle in _NO_HANDLE else hexed(handle))
    size = program.read_u32(address + at["nr_pages"]) * kernel.dump.page_size
    raw = f"{controller}: {label}, {size} bytes, ce_count {counts[0]}, ue_count {counts[1]}"
    yield from _counter(counts[0], "corrected", dimm, raw)
    yield from _counter(counts[1], "recoverable", dimm, raw)


def _counter(
    count: int, severity: str, dimm: RecordDimm | None, raw: str
) -> Iterator[HardwareError]:
    if not count:
        return
    kind: Severity = "corrected" if severity == "corrected" else "recoverable"
    words = "corrected" if severity == "corrected" else "uncorrected"
    yield HardwareError(
        source="edac",
        medium="memory",
        severity=kind,
        error_type=f"{count} {words} error{'s' if count > 1 else ''} counted since boot",
        is_memory=True,
        dimm=dimm,
        count=count,
        raw=(raw,),
    )


def _last(kernel: Kernel, address: int, at: dict[str, int], name: str) -> HardwareError | None:
    """``error_desc``: all zero where the controller never had an error."""
    program = kernel.program
    count = int(program.read_u16(address + at["error_count"]))
    if not count:
        return None
    severity, words = _TYPES.get(int(program.read_u32(address + at["type"])), (None, "error"))
    pfn = int(program.read_u64(address + at["page_frame_number"]))
    offset = int(program.read_u64(address + at["offset_in_page"]))
    grain = int(program.read_u64(address + at["grain"]))
    size = kernel.dump.page_size
    label = _string(kernel, address + at["label"], _LABELS_SIZE)
    place = _string(kernel, address + at["location"], _LOCATION_SIZE)
    try:
        said = clean(program.read_c_string(program.read_u64(address + at["msg"]), max_size=128))
    except FaultError:
        said = ""
    whole = 0 < grain <= size and not grain & (grain - 1)
    return HardwareError(
        source="edac",
        medium="memory",
        severity=severity,
        error_type=said.strip() or words,
        is_memory=True,
        # page:0x0 stands for "not known"
        physical_address=hexed(pfn * size + offset % size) if 0 < pfn < 1 << 52 else None,
        physical_address_mask=hexed((1 << 64) - grain) if pfn and whole else None,
        dimm=None if label in _UNKNOWN_LABELS else RecordDimm(label=label),
        count=count,
        raw=(f"{name}: last {words}: {said} on {label} ({place})",),
    )


def _string(kernel: Kernel, address: int, size: int) -> str:
    raw = kernel.program.read(address, size)
    return clean(raw.split(b"\0", 1)[0]).strip()

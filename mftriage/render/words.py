"""What the reports for people say: names, sizes, times and phrases, the same in every format.

Nothing here escapes anything: a phrase holds strings of the dump as they are, and each renderer
passes it through its own escaping function.  ``visible`` is what these have in common.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from mftriage.model import (
    DumpInfo,
    Frame,
    MemoryFailure,
    Owner,
    OwnerKind,
    PageInfo,
    Panic,
    SlabObject,
    Symbols,
    Task,
    Triage,
    VerdictKind,
)
from mftriage.stack import crash_site
from mftriage.text import parsed_utc

NOT_KNOWN = "not known"
SYSCTL = "vm.panic_on_unrecoverable_memory_failure"

Tone = Literal["bad", "warn", "calm", "unknown"]


class Heading(NamedTuple):
    """How a kind of verdict is headed, and how alarming it is."""

    title: str
    tone: Tone


VERDICTS: dict[VerdictKind, Heading] = {
    "unrecoverable-panic": Heading("Panic on an unrecoverable memory failure", "bad"),
    "fatal-hardware-error": Heading("Fatal hardware memory error", "bad"),
    "delayed-crash": Heading("Delayed crash on a failed page", "bad"),
    "possible-delayed-crash": Heading("Possibly a delayed crash on a failed page", "warn"),
    "unrelated": Heading("Crash not caused by a memory failure", "calm"),
    "hardware-not-memory": Heading("Hardware error, but not of memory", "warn"),
    "no-crash": Heading("No crash", "calm"),
    "inconclusive": Heading("Inconclusive", "unknown"),
}

OWNERS: dict[OwnerKind, str] = {
    "slab": "slab page",
    "page-table": "page table",
    "kernel-stack": "kernel stack",
    "vmalloc": "vmalloc memory",
    "percpu": "per-CPU memory",
    "large-kmalloc": "large kmalloc",
    "kernel-image": "kernel image",
    "module": "module",
    "reserved": "reserved page",
    "page-cache": "page cache",
    "anon": "anonymous memory",
    "hugetlb": "hugetlb page",
    "thp": "transparent huge page",
    "free": "free page",
    "offline": "offline page",
    "zero-page": "zero page",
    "unknown": "owner not known",
}

SYMBOLS: dict[Symbols, str] = {
    "dwarf": "debug info (DWARF)",
    "btf": "the dump's own BTF and kallsyms",
    "vmcoreinfo": "VMCOREINFO alone",
    "log-only": "the log alone",
}

# Which of the kernel's words for a page (mm/memory-failure.c, action_page_types) go with an owner.
# An owner that is missing here is never held against the kernel's words.
_FITTING: dict[OwnerKind, tuple[str, ...]] = {
    "slab": ("slab",),
    "page-table": ("page table",),
    "kernel-stack": ("stack",),
    "vmalloc": ("vmalloc",),
    "large-kmalloc": ("kmalloc", "high-order"),
    "module": ("module",),
    "kernel-image": ("reserved",),
    "reserved": ("reserved",),
    "zero-page": ("reserved", "zero"),
    "page-cache": ("LRU", "swapcache", "truncated", "dax", "huge", "thp"),
    "anon": ("LRU", "swapcache", "huge", "thp", "free"),
    "hugetlb": ("huge",),
    "free": ("free", "buddy"),
}


Facts = list[tuple[str, str]]


def visible(text: str) -> str:
    """Return ``text`` with everything that does not print spelled out: ESC becomes ``\\x1b``.

    That covers C0 and C1 controls, line ends, bidi and zero-width marks and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def clip(text: str, most: int) -> str:
    """Return at most ``most`` characters of ``text``, with an ellipsis where it was cut."""
    return text if len(text) <= most else text[: most - 1] + "…"


def number(text: str | None) -> int | None:
    """Return the number of a hex string; ``None`` where it is none."""
    try:
        return None if text is None else int(text, 16)
    except ValueError:
        return None


def count(many: int, one: str) -> str:
    """Return "1 page", "2 pages"."""
    return f"{many} {one if many == 1 else one + 's'}"


def size(of_bytes: int) -> str:
    """Return a size for people: "512 B", "21 MiB", "1.5 GiB"."""
    value, unit = float(of_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 10 or value.is_integer() else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a length of time in two units at most: "6.8 ms", "4 min 12 s", "22 d 0 h"."""
    if not math.isfinite(seconds):
        return NOT_KNOWN
    if abs(seconds) < 1:
        return f"{seconds * 1000:.1f} ms" if seconds else "0 s"
    if abs(seconds) < 60:
        return f"{seconds:.1f} s"
    sign, whole = "-" if seconds < 0 else "", round(abs(seconds))
    for unit, length, next_unit, next_length in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= length:
            return f"{sign}{whole // length} {unit} {whole % length // next_length} {next_unit}"
    return f"{sign}{whole} s"


def clock(seconds: float | None) -> str:
    """Return a time since boot in the notation of the kernel log: "10.408472"."""
    return NOT_KNOWN if seconds is None or not math.isfinite(seconds) else f"{seconds:.6f}"


def moment(utc: str) -> str:
    """Return an ISO 8601 time as "2026-11-24 03:12:41 UTC"; what is none stays as it is."""
    parsed = parsed_utc(utc)
    return f"{parsed:%Y-%m-%d %H:%M:%S} UTC" if parsed else utc


def task(who: Task) -> str:
    """Return a task as "comm[pid]"."""
    return (who.comm or "?") + ("" if who.pid is None else f"[{who.pid}]")


def frame(one: Frame) -> str:
    """Return a frame as "function+0x5b"."""
    return (one.function or "?") + ("" if one.offset is None else f"+{one.offset}")


def stack(panic: Panic) -> str:
    """Return the functions of the stack on one line, innermost first, without panic's own."""
    return " ← ".join(one.function or "?" for one in crash_site(panic.trace) or panic.trace)


def crash_place(panic: Panic) -> str:
    """Return who crashed, where and when: "in kworker/0:0[9] on CPU 0 at 10.408472"."""
    return " ".join(
        given(
            panic.task and f"in {task(panic.task)}",
            panic.cpu is not None and f"on CPU {panic.cpu}",
            panic.time is not None and f"at {clock(panic.time)} s",
            panic.fault_address and f"(fault address {panic.fault_address})",
        )
    )


def page_line(page: PageInfo) -> str:
    """Return the page and its state in one phrase."""
    return ", ".join(
        given(
            page.pfn + (f" (physical {page.physical_address})" if page.physical_address else ""),
            page.hwpoison is not None and ("poisoned" if page.hwpoison else "not poisoned"),
            page.node is not None and f"node {page.node}",
            page.zone and f"zone {page.zone}",
            page.compound
            and f"{page.compound} of an order-{'?' if page.order is None else page.order} page",
            page.content_in_dump is False and "content not in the dump",
        )
    )


def page_facts(page: PageInfo) -> Facts:
    """Return what is known of the page besides its flags and its owner, label by label."""
    return labelled(
        ("pfn", page.pfn),
        ("physical address", page.physical_address),
        ("page type", page.page_type),
        ("poisoned", yes_no(page.hwpoison)),
        ("refcount", page.refcount),
        ("mapcount", page.mapcount),
        ("order", page.order),
        ("compound", page.compound),
        ("head pfn", page.head_pfn),
        ("node", page.node),
        ("zone", page.zone),
        ("content in dump", yes_no(page.content_in_dump)),
    )


def owner_line(owner: Owner) -> str:
    """Return whose page it is in one phrase; the dump's own detail where there is one."""
    if owner.detail:
        return owner.detail
    names = given(
        owner.slab_cache, owner.symbol, owner.module, owner.file, owner.task and task(owner.task)
    )
    return " ".join((OWNERS[owner.kind], *names))


def owner_facts(owner: Owner) -> Facts:
    """Return what is known of the owner besides the slab object, label by label."""
    return labelled(
        ("slab cache", owner.slab_cache),
        ("object size", None if owner.object_size is None else size(owner.object_size)),
        ("objects in the slab", owner.objects),
        ("symbol", owner.symbol),
        ("section", owner.section),
        ("module", owner.module),
        ("task", owner.task and task(owner.task)),
        ("file", owner.file),
        ("page-table level", owner.level),
        ("allocated by", owner.caller),
    )


def object_line(bad: SlabObject) -> str:
    """Return the slab object that the bad address lies in, and the member that it hits."""
    state = {None: None, True: "allocated", False: "free"}[bad.allocated]
    hit = bad.member and f"bad line covers {bad.member}"
    if hit and bad.offset:
        hit += f" (+{bad.offset})"
    return ", ".join(given(f"{bad.type or 'object'} at {bad.address}", hit, state))


def object_facts(bad: SlabObject) -> Facts:
    """Return what is known of the slab object, label by label."""
    return labelled(
        ("object", bad.address),
        ("type", bad.type),
        ("bad address at", bad.offset and f"+{bad.offset}"),
        ("member hit", bad.member),
        ("allocated", yes_no(bad.allocated)),
    )


def failure_line(failure: MemoryFailure) -> str:
    """Return a memory-failure event in the kernel's words: '"reserved kernel page": ignored'."""
    killed = failure.killed and "killed " + ", ".join(map(task, failure.killed))
    return ", ".join(
        given(
            f'"{failure.page_type or "?"}": {failure.action or "?"}',
            failure.panicked and "panicked",
            killed,
            failure.previous_boot and "in the boot before",
        )
    )


def kernel_words(triage: Triage) -> str | None:
    """Return the kernel's words for the page where they differ from the owner; else ``None``.

    They are often too coarse: "reserved kernel page" is also said of a slab page.
    """
    page = triage.page
    fitting = page and page.owner and _FITTING.get(page.owner.kind)
    if not (page and page.owner and fitting):
        return None
    for failure in reversed(triage.memory_failures):
        said = failure.page_type
        # "already poisoned" is said of the second failure, and tells nothing of the page.
        if failure.pfn != page.pfn or not said or "already" in said:
            continue
        if any(word in said for word in fitting):
            return None
        action = f" ({failure.action})" if failure.action else ""
        return f'"{said}"{action}, but the dump proves: {OWNERS[page.owner.kind]}'
    return None


def host_line(dump: DumpInfo) -> str:
    """Return host, kernel, uptime and time of the crash in one line."""
    return ", ".join(
        given(
            dump.hostname,
            " ".join(given(dump.kernel_release, dump.arch)),
            dump.uptime_seconds is not None and f"up {duration(dump.uptime_seconds or 0)}",
            dump.crash_time and moment(dump.crash_time),
        )
    )


def dump_line(dump: DumpInfo) -> str:
    """Return the file in one line: its path, size and format, and where symbols came from."""
    kind = " ".join(given(dump.size_bytes is not None and size(dump.size_bytes or 0), dump.format))
    cut = dump.complete is False and "cut short"
    return ", ".join(given(dump.path, kind, cut, f"read with {SYMBOLS[dump.symbols]}"))


def host_facts(triage: Triage) -> Facts:
    """Return what is known of the machine, label by label."""
    dump = triage.dump
    sysctl = triage.panic_on_unrecoverable_memory_failure
    origin = {None: None, True: "hardware", False: "injected by software"}
    return labelled(
        ("host", dump.hostname),
        ("crashed at", dump.crash_time and moment(dump.crash_time)),
        ("uptime", None if dump.uptime_seconds is None else duration(dump.uptime_seconds)),
        ("kernel", dump.kernel_release),
        ("architecture", dump.arch),
        ("build id", dump.build_id),
        ("taint", None if dump.taint is None else " ".join(dump.taint) or "none"),
        ("page size", None if dump.page_size is None else size(dump.page_size)),
        (SYSCTL, sysctl),
        (
            "memory failures come from",
            origin[triage.hw_memory_failure] if triage.memory_failures else None,
        ),
        ("poisoned pages counted", triage.num_poisoned_pages),
    )


def dump_facts(dump: DumpInfo) -> Facts:
    """Return what is known of the file, label by label."""
    return labelled(
        ("dump", dump.path),
        ("size", None if dump.size_bytes is None else size(dump.size_bytes)),
        ("format", dump.format),
        ("complete", yes_no(dump.complete)),
        ("symbols from", SYMBOLS[dump.symbols]),
    )


class Step(NamedTuple):
    """One step of the timeline: its time, how long after the first, and how long after the last."""

    kind: str
    text: str
    seconds: float | None
    time: str
    since_first: str | None
    gap: str | None
    exact: bool


def steps(triage: Triage) -> list[Step]:
    """Return the timeline with relative times; a step without a time has none."""
    made: list[Step] = []
    first = last = None
    for entry in triage.timeline:
        now = entry.time if entry.time is not None and math.isfinite(entry.time) else None
        since_first = gap = None
        if now is not None and not entry.exact:
            since_first = "to the second"
        elif now is not None:
            if first is not None and last is not None:
                since_first = f"+{duration(now - first)}"
                gap = duration(now - last)
            first, last = now if first is None else first, now
        shown = clock(now) if entry.exact or now is None else f"{now:.0f}"
        made.append(Step(entry.kind, entry.text, now, shown, since_first, gap, entry.exact))
    return made


def error_to_crash(triage: Triage) -> str | None:
    """Return how long the machine lived after the first error whose time is known exactly."""
    made = [step for step in steps(triage) if step.seconds is not None and step.exact]
    errors = [step.seconds for step in made if step.kind in ("error", "failure")]
    crashes = [step.seconds for step in made if step.kind == "crash"]
    if not errors or not crashes or crashes[-1] is None or errors[0] is None:
        return None
    return duration(crashes[-1] - errors[0])


def given(*values: object) -> list[str]:
    """Keep the phrases; a fact that is not known has made no string here, or an empty one."""
    return [value for value in values if isinstance(value, str) and value]


def labelled(*rows: tuple[str, object]) -> Facts:
    """Keep the rows whose value is known."""
    return [(label, str(value)) for label, value in rows if value not in (None, "", ())]


def yes_no(value: bool | None) -> str | None:
    """Return yes or no; ``None`` for what is not known."""
    return None if value is None else "yes" if value else "no"


def told(value: object) -> object:
    """Return a value of a record for people: a list as words, a yes or nothing."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return ("yes" if value else None) if isinstance(value, bool) else value


def spaced(name: str) -> str:
    """Return the name of a field as words."""
    return name.replace("_", " ")

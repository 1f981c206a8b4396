"""Rules of a crash that came after a memory failure: tied to its page, or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from mftriage.facts import Facts, Tie, granule_of
from mftriage.model import Confidence, Fact, HardwareError, MemoryFailure, Verdict, hexed
from mftriage.stack import site
from mftriage.verdict.evidence import (
    ABORT,
    MCE_PANIC,
    consumed_poison,
    event_words,
    is_after,
    page_evidence,
    page_words,
    panic_message,
    record_words,
    records_evidence,
)

_ABORT_SECONDS = 60.0  # from a record to the abort that it explains
_AT_ONCE_SECONDS = 2.0  # the same, where an earlier failure explains it as well
_CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)
# arch/x86/mm/fault.c, pgtable_bad() and show_fault_oops(): the CPU met a reserved bit in a table
_BAD_TABLE = re.compile(r"Corrupted page table|Bad pagetable|reserved bit violation")
_LINE = 64  # bytes of a cache line
_MAX_MORE = 4  # further ties that are told
# mm/memory-failure.c and its callers
_HANDLING = re.compile(
    r"(?:memory_failure|action_result|get_hwpoison_page|get_any_page|hwpoison_|collect_procs|"
    r"kill_procs?\b|soft_offline|unpoison_memory|kill_me_)"
)


def crash_in_page(facts: Facts) -> Verdict | None:
    """An earlier failure was not recovered, and the crash is tied to that very page.

    Ties, the closest first: the final machine check's address lies in the page; the access that
    faulted does, or would with one bit flipped back where the address is none as it stands; the pointer that led
    it astray stands in the page; the page is the table, the code or the stack of the crash; a
    register of the oops points into it.  A tie that is no more than a pointer does not count where
    the dump shows that the crash came from elsewhere.
    """
    rule = "crash-in-page"
    tie = deciding_tie(facts)
    if tie is None or facts.panic is None:
        return None
    event = _last_failure(facts, tie.pfn)
    delay = _delay(facts, event)
    first = event_words(event) if event else "the log no longer shows the failure of the page"
    evidence = [Fact(rule=rule, fact=first), Fact(rule=rule, fact=_tie_words(facts, tie))]
    evidence.append(Fact(rule=rule, fact=f"the crash: {facts.oops or panic_message(facts)}"))
    if delay is not None:
        evidence.append(Fact(rule=rule, fact=f"the crash came {delay:.1f} s after the failure"))
    more = {t.address: t for t in reversed(facts.ties) if t.pfn == tie.pfn}
    more.pop(tie.address)
    evidence += [
        Fact(rule=rule, fact=_tie_words(facts, t)) for t in list(more.values())[::-1][:_MAX_MORE]
    ]
    page_evidence(rule, facts, tie.pfn, evidence)
    records_evidence(rule, facts, tie.pfn, evidence)
    when = f" {delay:.1f} s before" if delay is not None else " before"
    page = page_words(facts.pages.get(tie.pfn), tie.pfn)
    return Verdict(
        kind="delayed-crash",
        confidence=_weight(facts, tie) or "low",
        summary=f"{_did(tie).format(page)}, which a memory failure had hit{when} and the kernel had left in use.",
        pfn=f"{tie.pfn:#x}",
        evidence=tuple(evidence),
        against=tuple(_against(rule, facts, tie)),
    )


def deciding_tie(facts: Facts) -> Tie | None:
    """The tie that a later crash is known by: the weightiest to a page that was not recovered."""
    if facts.panic is None or not facts.ties:
        return None
    left = _left_in_use(facts)
    weighed = [
        (_CONFIDENCES.index(weight), place, tie)
        for place, tie in enumerate(facts.ties)
        if tie.pfn in left and (weight := _weight(facts, tie)) is not None
    ]
    return min(weighed)[2] if weighed else None


def _weight(facts: Facts, tie: Tie) -> Confidence | None:
    """How sure a tie makes; ``None``: it proves nothing by itself."""
    consumed = consumed_poison(facts)
    sure = tie.flipped_bit is None and tie.provided is None
    if tie.how == "record":  # of another exception than the one that the machine died of, else
        return "certain" if MCE_PANIC.match(panic_message(facts)) else None
    if tie.how == "access":
        if consumed:
            return "certain" if sure else "high"
        return "medium" if tie.provided else "high"
    if tie.how == "table" and (consumed or _BAD_TABLE.search(facts.oops or "")):
        return "high"
    if tie.how == "pointer":
        return "medium" if facts.elsewhere else "high"
    if facts.elsewhere or tie.how == "slot" or _touched_elsewhere(facts, tie):
        return None  # a pointer that is left over, or there by chance
    if tie.how == "register":
        return _weight_of_register(facts, tie, consumed)
    return "medium"


def _weight_of_register(facts: Facts, tie: Tie, consumed: bool) -> Confidence | None:
    words = f"{panic_message(facts)} {facts.oops or ''}"
    if not consumed and facts.oops is None:
        return None  # nothing faulted: a lockup, a panic of the kernel's own
    access = facts.panic.access if facts.panic else None
    if tie.flipped_bit is not None:
        # of a register that had no part in the fault, one bit off is nothing
        led = access is None or (access.register or "").lower() == tie.where.split()[-1].lower()
        return "high" if led else None
    return "high" if consumed and "SError" not in words else "medium"


def _touched_elsewhere(facts: Facts, tie: Tie) -> bool:
    """Whether what faulted was an access in another page that had failed, a recovered one perhaps."""
    return any(t.how in ("record", "access") and t.pfn != tie.pfn for t in facts.ties)


def _left_in_use(facts: Facts) -> set[int]:
    """The pages that the kernel did not take out of use, or has yet to (delayed)."""
    left = {int(e.pfn, 16) for e in facts.unrecovered()} | facts.untold()
    done: dict[int, set[str | None]] = {}
    for event in facts.before_crash():
        done.setdefault(int(event.pfn, 16), set()).add(event.action)
    return left | {
        pfn for pfn, said in done.items() if "delayed" in said and "recovered" not in said
    }


def _last_failure(facts: Facts, pfn: int) -> MemoryFailure | None:
    """The failure that left the page in use."""
    events = [e for e in facts.before_crash() if int(e.pfn, 16) == pfn]
    left = [e for e in facts.unrecovered() if int(e.pfn, 16) == pfn]
    return next(iter(left or events), None)


def _delay(facts: Facts, event: MemoryFailure | None) -> float | None:
    """Seconds from a failure to the panic."""
    if event is None or event.time is None or facts.panic is None or facts.panic.time is None:
        return None
    return facts.panic.time - event.time


def _did(tie: Tie) -> str:
    """What the crash did with the page."""
    if tie.flipped_bit is not None:
        return "The crash followed an address that is one flipped bit away from {}"
    return {
        "record": "The crash touched {}",
        "access": "The crash touched {}",
        "pointer": "The crash followed a pointer that was read out of {}",
        "table": "The access that crashed was translated by {}",
        "code": "The crash ran code in {}",
        "stack": "The crash ran on a stack in {}",
    }.get(tie.how, "The crash held an address in {}")


def _tie_words(facts: Facts, tie: Tie) -> str:
    """A tie as a row of evidence."""
    verb = "holds" if tie.how in ("register", "slot") else "is"
    if tie.where.startswith("the faulting instruction"):
        verb = "accessed"
    elif tie.how in ("table", "code", "stack"):
        verb = "is at"
    text = f"{tie.where} {verb} {tie.address:#x}"
    if tie.flipped_bit is not None:
        text += f": with bit {tie.flipped_bit} flipped back, it lies in page {tie.pfn:#x}"
    else:
        text += f", which lies in page {tie.pfn:#x}{_grain(facts, tie)}"
    if tie.provided is not None:
        text += f", provided that {tie.provided}, which a log can't show"
    return text


def _grain(facts: Facts, tie: Tie) -> str:
    """How close it is to what the hardware named: the same bytes, the same object, or just the page."""
    if tie.how not in ("record", "access", "register", "slot"):
        return ""
    offset = tie.address % facts.page_size
    for record in facts.records_of(tie.pfn):
        granule = granule_of(record, facts.page_size)
        place = int(record.physical_address or "0", 16) % facts.page_size
        if granule is not None and place // granule == offset // granule:
            same_line = granule > _LINE and place // _LINE == offset // _LINE
            line = ", in the cache line of its address" if same_line else ""
            return f", in the very {granule} bytes that the hardware named{line}"
    page = facts.pages.get(tie.pfn)
    struck = page.owner.object if page and page.owner else None
    size = page.owner.object_size if page and page.owner else None
    if struck is not None and size:
        start = int(struck.address, 16)
        if start <= tie.address < start + size:
            return f", in the object that was hit ({struck.type or 'at'} {struck.address})"
    return ""


def _against(rule: str, facts: Facts, tie: Tie | None) -> Iterator[Fact]:
    """What a sceptic would say."""
    access = facts.panic.access if facts.panic else None
    if (
        tie is not None
        and tie.how == "register"
        and tie.flipped_bit is None
        and access is not None
        and access.address
    ):
        yield Fact(
            rule=rule,
            fact=f"the instruction that faulted ({access.instruction}) accessed {access.address}, which lies elsewhere",
        )
    for words in facts.elsewhere:
        yield Fact(rule=rule, fact=words)
    where = site(facts.panic.trace) if facts.panic else None
    if where is not None and _HANDLING.match(where):
        yield Fact(
            rule=rule,
            fact=f"the crash came in {where}(), which handles failures: a bug there explains it as well",
        )
    pfns = [tie.pfn] if tie is not None else [int(e.pfn, 16) for e in facts.unrecovered()]
    if pfns and all(facts.is_injected(pfn) for pfn in pfns):
        yield Fact(
            rule=rule,
            fact="the failure was injected by software: nothing says that the memory is bad",
        )


def external_abort(facts: Facts) -> Verdict | None:
    """arm64: the CPU took an external abort, an SError or an ECC error, which memory most often raises.

    arch/arm64/mm/fault.c (do_sea) and kernel/traps.c: in kernel mode it prints no record of its own.
    After a failure that was not recovered, and with no register to compare, the abort itself
    speaks for that page; with a memory record shortly before it, for that one.
    """
    rule = "external-abort"
    panic = facts.panic
    if panic is None or not ABORT.search(f"{panic_message(facts)} {facts.oops or ''}"):
        return None
    crash = Fact(rule=rule, fact=f"the crash: {facts.oops or panic_message(facts)}")
    left = [e for e in facts.unrecovered() if not is_after(e.time, panic.time)]
    touched = next((t for t in facts.ties if t.how == "access" and t.flipped_bit is None), None)
    if touched is not None:
        return _abort_in_recovered(facts, touched, crash)
    records = _records_before(facts, _AT_ONCE_SECONDS) or (
        [] if left else _records_before(facts, _ABORT_SECONDS)
    )
    if records:
        return _abort_after_record(facts, records[-4:], crash)
    if not left or facts.registers_known:
        return None
    pages = {e.pfn for e in left}
    return Verdict(
        kind="delayed-crash",
        confidence="medium" if len(pages) == 1 else "low",
        summary=f"The CPU took an external abort, as from bad memory, after a memory failure in page {left[-1].pfn} had been left unrecovered.",
        pfn=left[-1].pfn,
        evidence=(crash, *(Fact(rule=rule, fact=event_words(e)) for e in left[:8])),
        against=(Fact(rule=rule, fact="the log has no address or register of the crash"),),
    )


def _abort_in_recovered(facts: Facts, touched: Tie, crash: Fact) -> Verdict:
    events = [e for e in facts.before_crash() if int(e.pfn, 16) == touched.pfn]
    return Verdict(
        kind="fatal-hardware-error",
        confidence="high",
        summary=f"The CPU took an external abort in {page_words(facts.pages.get(touched.pfn), touched.pfn)}, which a memory failure had hit before and the kernel had called recovered.",
        pfn=f"{touched.pfn:#x}",
        evidence=(
            crash,
            Fact(rule=crash.rule, fact=_tie_words(facts, touched)),
            *(Fact(rule=crash.rule, fact=event_words(e)) for e in events[:8]),
        ),
    )


def _records_before(facts: Facts, seconds: float) -> list[HardwareError]:
    """Uncorrected memory errors shortly before the crash, in pages that were not dealt with."""
    died = facts.panic.time if facts.panic else None
    done = {int(e.pfn, 16) for e in facts.before_crash()} - _left_in_use(facts)
    return [
        r
        for r in facts.hardware_errors
        if r.is_memory
        and r.severity in ("recoverable", "fatal")
        and not is_after(r.time, died)
        and not is_after(died, r.time, seconds)
        and facts.pfn_of(r.physical_address) not in done
    ]


def _abort_after_record(facts: Facts, records: list[HardwareError], crash: Fact) -> Verdict:
    address = records[-1].physical_address
    pfn = facts.pfn_of(address)
    again = pfn is not None and pfn in _left_in_use(facts)
    where = f" at {address}" if address else ""
    had = ", in a page that an earlier failure had left in use" if again else ""
    return Verdict(
        kind="delayed-crash" if again else "fatal-hardware-error",
        confidence="high",
        summary=f"The CPU took an external abort right after firmware had reported an uncorrected memory error{where}{had}.",
        pfn=hexed(pfn),
        evidence=(crash, *(Fact(rule=crash.rule, fact=record_words(r)) for r in records)),
    )


def unrecovered_before(facts: Facts) -> Verdict | None:
    """An earlier failure was not recovered; nothing ties the crash to it, and nothing rules it out."""
    rule = "unrecovered-before"
    events = facts.unrecovered()
    if facts.panic is None:
        return None
    if not (events or facts.lost_failures or facts.untold()):
        return _unhandled(rule, facts)
    if not events:
        return _lost_before(rule, facts)
    event = events[-1]
    delay = _delay(facts, event)
    when = f" {delay:.1f} s" if delay is not None else ""
    still = _left_in_use(facts)
    weak = [tie for tie in facts.ties if tie.pfn in still]
    against = [
        *_against(rule, facts, None),
        Fact(
            rule=rule,
            fact="no address of the crash lies in the page"
            if not weak
            else "none of this ties the crash to the page: a pointer may be left over, or be there by chance",
        ),
    ]
    done = {e.pfn for e in facts.before_crash() if e.action == "recovered"}
    if done:
        against.append(
            Fact(
                rule=rule,
                fact=f"{len(done)} other page(s) that failed were recovered: {', '.join(sorted(done)[:4])}",
            )
        )
    page = facts.pages.get(int(event.pfn, 16))
    return Verdict(
        kind="possible-delayed-crash",
        confidence="low",
        summary=f"A memory failure in {page_words(page, int(event.pfn, 16))} was left unrecovered{when} before the crash, but nothing ties the crash to it.",
        pfn=event.pfn,
        evidence=(
            *(Fact(rule=rule, fact=event_words(e)) for e in events[:8]),
            *(Fact(rule=rule, fact=_tie_words(facts, tie)) for tie in weak[:_MAX_MORE]),
        ),
        against=tuple(against),
    )


def _unhandled(rule: str, facts: Facts) -> Verdict | None:
    """The same of errors that were reported, and of which the log never says what the kernel did."""
    records = facts.unhandled_records()
    if not records:
        return None
    return Verdict(
        kind="possible-delayed-crash",
        confidence="low",
        summary="An uncorrected memory error was reported before the crash, and nothing says that its page was isolated; but nothing ties the crash to it.",
        evidence=tuple(Fact(rule=rule, fact=record_words(r)) for r in records[:8]),
        against=(Fact(rule=rule, fact="no address of the crash lies in its page"),),
    )


def _lost_before(rule: str, facts: Facts) -> Verdict:
    count = facts.lost_failures or len(facts.untold())
    counted = f"{count} memory failure{'s' if count > 1 else ''}"
    return Verdict(
        kind="possible-delayed-crash",
        confidence="low",
        summary=f"The kernel left {counted} unrecovered that the log no longer shows; nothing ties the crash to it.",
        evidence=(
            *(
                (Fact(rule=rule, fact=f"mf_stats count {counted} more than the log shows"),)
                if facts.lost_failures
                else ()
            ),
            *(
                Fact(rule=rule, fact=f"page {p.pfn} ({p.owner_kind}) is marked PG_hwpoison")
                for p in facts.poisoned_pages[:8]
            ),
        ),
        against=(Fact(rule=rule, fact="no address of the crash is known to lie in such a page"),),
    )

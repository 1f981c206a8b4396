"""Rows of evidence, and the words that rules use for pages, events and records."""

from __future__ import annotations

import re

from mftriage.facts import Facts
from mftriage.model import Fact, HardwareError, MemoryFailure, PageInfo

# panic() messages of arch/x86/kernel/cpu/mce/core.c
MCE_PANIC = re.compile(
    r"(?:Fatal (?:local )?[Mm]achine check|Local fatal machine check|Machine check\b|"
    r"Failed kernel mode recovery|Too many consecutive machine checks|Uncorrected machine check|"
    r"Consecutive machine checks to different user pages|Panicing machine check CPU died|"
    r"MCA architectural violation|Timeout: (?:Not all|Subject|Monarch) CPU|Timeout synchronizing machine check)"
)
# arch/arm64/mm/fault.c (fault_info, do_sea) and kernel/traps.c
ABORT = re.compile(
    r"synchronous (?:external abort|parity(?: or ECC)? error)|\(translation table walk\)|SError"
)


def panic_message(facts: Facts) -> str:
    """The panic's words; empty where there are none."""
    return (facts.panic.message if facts.panic else None) or ""


def page_words(page: PageInfo | None, pfn: int) -> str:
    """A page and whose it is: "page 0x1 (slab cache dentry)"; the pfn alone where that is not known."""
    if page is None or page.owner is None or page.owner.kind == "unknown":
        return f"page {pfn:#x}"
    owner = page.owner
    what = f"slab cache {owner.slab_cache}" if owner.slab_cache else owner.kind.replace("-", " ")
    return f"page {pfn:#x} ({what})"


def event_words(event: MemoryFailure) -> str:
    """A failure as the kernel put it."""
    words = event.page_type or "a failure"
    return f"Memory failure {event.pfn}: {words}" + (f": {event.action}" if event.action else "")


def record_words(record: HardwareError) -> str:
    """A record in one phrase: where from, how bad, what, which bank, where."""
    parts = [f"{record.source} record ({' and '.join(record.media)})"]
    parts += [p for p in (record.severity, record.error_type) if p]
    if record.mce:
        parts.append(f"bank {record.mce.bank} status {record.mce.status}")
    if record.physical_address:
        parts.append(f"at {record.physical_address}")
    return ", ".join(parts)


def page_evidence(rule: str, facts: Facts, pfn: int, evidence: list[Fact]) -> None:
    """Add what the dump shows of the page."""
    page = facts.pages.get(pfn)
    if page is None:
        return
    if page.hwpoison:
        evidence.append(Fact(rule=rule, fact=f"struct page {pfn:#x} has PG_hwpoison set"))
    if page.owner is not None and page.owner.kind != "unknown":
        evidence.append(
            Fact(
                rule=rule,
                fact=f"the dump shows whose it is: {page.owner.detail or page.owner.kind}",
            )
        )
    if page.content_in_dump is False and facts.dump.complete:
        evidence.append(
            Fact(
                rule=rule,
                fact="the page's content is not in the dump (makedumpfile leaves poisoned pages out)",
            )
        )


def records_evidence(rule: str, facts: Facts, pfn: int, evidence: list[Fact]) -> None:
    """Add the records whose address lies in the page."""
    for record in facts.records_of(pfn)[:4]:
        evidence.append(Fact(rule=rule, fact=record_words(record)))


def consumed_poison(facts: Facts) -> bool:
    """Whether the crash itself was raised by the hardware: a machine check or an external abort."""
    message = panic_message(facts)
    return bool(MCE_PANIC.match(message) or ABORT.search(f"{message} {facts.oops or ''}"))


def is_after(time: float | None, other: float | None, seconds: float = 0.0) -> bool:
    """Whether ``time`` is known to be more than ``seconds`` later than ``other``."""
    return time is not None and other is not None and time > other + seconds


def what_of(record: HardwareError) -> str:
    """What failed, by the record."""
    device = record.firmware.device if record.firmware else None
    return (record.error_type or record.source) + (f" of {device}" if device else "")

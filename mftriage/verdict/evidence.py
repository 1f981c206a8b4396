"""Rows of evidence, and the words that rules use for pages, events and records."""

from __future__ import annotations

from mftriage.facts import Facts
from mftriage.model import Fact, HardwareError, MemoryFailure, PageInfo


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


def what_of(record: HardwareError) -> str:
    """What failed, by the record."""
    device = record.firmware.device if record.firmware else None
    return (record.error_type or record.source) + (f" of {device}" if device else "")

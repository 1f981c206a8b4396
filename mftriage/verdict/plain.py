"""Rules of a crash that memory has no part in, or none that can be told, and of no crash at all."""

from __future__ import annotations

import re

from mftriage.facts import Facts
from mftriage.model import Fact, Verdict
from mftriage.verdict.evidence import event_words, panic_message, record_words

# Raised by the hardware, without a record of what: traps.c and nmi.c of either architecture.
_RAISED = re.compile(
    r"(?:Asynchronous SError|synchronous external abort|NMI IOCK error|NMI: Not continuing|"
    r"Unhandled SError|bad mode)",
    re.IGNORECASE,
)
_SYSRQ = re.compile(r"sysrq triggered crash", re.IGNORECASE)


def capture_kernel_log(facts: Facts) -> Verdict | None:
    """The log is that of the kernel that saved the dump: what crashed stands in another log.

    Errors in it are those of reading the crashed kernel's memory, bad pages and all.
    """
    if not facts.capture_kernel or facts.panic is not None:
        return None
    rule = "capture-kernel-log"
    return Verdict(
        kind="inconclusive",
        confidence="low",
        summary="This is the log of the kernel that saved the dump; the crash stands in the log of the one before.",
        evidence=(
            Fact(rule=rule, fact="its messages are those of kdump saving a dump"),
            *(Fact(rule=rule, fact=record_words(r)) for r in facts.hardware_errors[:4]),
        ),
    )


def crash_on_request(facts: Facts) -> Verdict | None:
    """Somebody asked for the crash: sysrq-c, or a write of c to /proc/sysrq-trigger.

    drivers/tty/sysrq.c, sysrq_handle_crash: it panics since 5.4, and wrote to address 0 before.
    Whatever failed before it did not cause it, though it may be why somebody asked.
    """
    rule = "crash-on-request"
    if facts.panic is None:
        return None
    asked = any(frame.function == "sysrq_handle_crash" for frame in facts.panic.trace[:8])
    if not asked and not _SYSRQ.match(panic_message(facts)):
        return None
    evidence = [Fact(rule=rule, fact=f"the crash: {facts.oops or panic_message(facts)}")]
    if asked:
        evidence.append(Fact(rule=rule, fact="sysrq_handle_crash() is on the stack"))
    evidence += [Fact(rule=rule, fact=event_words(e)) for e in facts.memory_failures[:8]]
    left = len({e.pfn for e in facts.unrecovered()})
    against = [
        Fact(rule=rule, fact=f"{left} page(s) with an unrecovered memory failure were in use")
    ]
    return Verdict(
        kind="unrelated",
        confidence="high",
        summary="The crash was asked for (sysrq-c): no memory error caused it"
        + (", though bad memory was left in use." if left else "."),
        evidence=tuple(evidence),
        against=tuple(against) if left else (),
    )


def raised_by_hardware(facts: Facts) -> Verdict | None:
    """The hardware itself stopped the kernel, and nothing that is left says why.

    An external abort or SError of arm64, an IOCK or unknown NMI of x86 that is set to panic.  It
    may have been memory: no rule before this one could tie it to a page or a record.
    """
    rule = "raised-by-hardware"
    words = next((w for w in (facts.oops or "", panic_message(facts)) if _RAISED.search(w)), None)
    if facts.panic is None or words is None:
        return None
    return Verdict(
        kind="inconclusive",
        confidence="low",
        summary=f"The hardware stopped the kernel ({words}), and no record says of what.",
        evidence=(Fact(rule=rule, fact=f"the crash: {words}"),),
    )


def crash_without_failure(facts: Facts) -> Verdict | None:
    """The machine crashed, and no memory failure was left unrecovered: memory did not do it."""
    rule = "crash-without-failure"
    message = facts.oops or panic_message(facts)
    if facts.panic is None or not facts.log or not message:
        return None
    evidence = [Fact(rule=rule, fact=f"the crash: {message}")]
    evidence.append(
        Fact(
            rule=rule,
            fact=_what_became(facts),
        )
    )
    evidence += [Fact(rule=rule, fact=event_words(e)) for e in facts.memory_failures[:8]]
    against = []
    if facts.poisoned_pages and not facts.memory_failures:
        against.append(
            Fact(rule=rule, fact=f"{len(facts.poisoned_pages)} pages are marked PG_hwpoison")
        )
    against += [
        Fact(
            rule=rule,
            fact=f"{tie.where} points into page {tie.pfn:#x}, which failed, but was taken out of use",
        )
        for tie in facts.ties
        if tie.how != "slot"
    ][:2]
    return Verdict(
        kind="unrelated",
        confidence="high" if not against else "medium",
        summary=f"The crash is explained without a memory error: {message}.",
        evidence=tuple(evidence),
        against=tuple(against),
    )


def _what_became(facts: Facts) -> str:
    if not facts.memory_failures:
        return "the log has no memory failure"
    if any(e.action == "delayed" for e in facts.memory_failures):
        return "every memory failure in the log was recovered or delayed, which keeps the page from use"
    return "every memory failure in the log was recovered"


def no_crash(facts: Facts) -> Verdict | None:
    """The machine had not crashed when the dump was taken."""
    rule = "no-crash"
    if facts.crashed is not False:
        return None
    alone = facts.dump.symbols == "log-only"
    asked = (
        ""
        if facts.dump.symbols in ("vmcoreinfo", "log-only")
        else "no CPU has called panic(), and "
    )
    evidence = [Fact(rule=rule, fact=f"{asked}the log has no panic or oops")]
    evidence += [Fact(rule=rule, fact=event_words(e)) for e in facts.memory_failures[:8]]
    left = facts.unrecovered()
    tail = ""
    if left:
        tail = f"; {len({e.pfn for e in left})} bad page(s) are still in use"
    elif facts.memory_failures:
        tail = "; every memory failure was recovered"
    return Verdict(
        kind="no-crash",
        confidence="high" if asked or alone else "medium",
        summary=f"The log tells of no crash{tail}."
        if alone
        else f"The machine had not crashed when the dump was taken{tail}.",
        evidence=tuple(evidence),
    )


def not_enough(facts: Facts) -> Verdict | None:
    """Not enough was readable to say."""
    return Verdict(
        kind="inconclusive",
        confidence="low",
        summary="Not enough of the dump is readable to say what happened.",
        evidence=(Fact(rule="not-enough", fact="neither a log nor a panic could be read"),)
        if not facts.log
        else (),
    )

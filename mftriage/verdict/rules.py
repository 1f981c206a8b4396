"""The rules, from the most certain to the last resort."""

from __future__ import annotations

import re

from mftriage.facts import Facts
from mftriage.model import SYSCTL_OWNERS, Confidence, Fact, HardwareError, Verdict
from mftriage.verdict.evidence import (
    event_words,
    page_evidence,
    page_words,
    panic_message,
    record_words,
    records_evidence,
    what_of,
)

# What version 2 of the series, which some vendors carry, panics for besides.
_EARLIER_WORDS = ("high-order kernel page", "unknown page", "get hwpoison page")

_SYSCTL_PANIC = re.compile(r"Memory failure: (0x[0-9a-f]+): unrecoverable page")
_NO_RECOVERY_PANIC = re.compile(r"Memory failure on page ([0-9a-f]+)")
# drivers/acpi/apei/ghes.c, __ghes_panic; older kernels say it without the prefix.
_GHES_PANIC = re.compile(r"(?:GHES: )?Fatal hardware error")
# Raised by the hardware, without a record of what: traps.c and nmi.c of either architecture.
_RAISED = re.compile(
    r"(?:Asynchronous SError|synchronous external abort|NMI IOCK error|NMI: Not continuing|"
    r"Unhandled SError|bad mode)",
    re.IGNORECASE,
)
_FINAL_SECONDS = 10.0  # between the record that a machine dies of and its panic
_EDAC_PANIC = re.compile(r"UE .* on ")
# panic() messages of arch/x86/kernel/cpu/mce/core.c
_MCE_PANIC = re.compile(
    r"(?:Fatal (?:local )?[Mm]achine check|Local fatal machine check|Machine check\b|"
    r"Failed kernel mode recovery|Too many consecutive machine checks|Uncorrected machine check|"
    r"Consecutive machine checks to different user pages|Panicing machine check CPU died|"
    r"MCA architectural violation|Timeout: (?:Not all|Subject|Monarch) CPU|Timeout synchronizing machine check)"
)
_CXL_PANIC = re.compile(r"CXL \w+ error")
_ABORT = re.compile(r"synchronous (?:external abort|parity or ECC error)|SError")
_ABORT_SECONDS = 60.0  # from a record to the abort that it explains
_SYSRQ = re.compile(r"sysrq triggered crash", re.IGNORECASE)


def sysctl_panic(facts: Facts) -> Verdict | None:
    """vm.panic_on_unrecoverable_memory_failure fired.

    The panic's own words name the page (mm/memory-failure.c, action_result; Linux 7.3).
    Certain: the kernel itself says that it died of this page.
    """
    rule = "sysctl-panic"
    match = _SYSCTL_PANIC.match(panic_message(facts))
    if match is None:
        return None
    pfn = int(match[1], 16)
    page = facts.pages.get(pfn)
    evidence = [Fact(rule=rule, fact=f"the panic's words: {panic_message(facts)!r}")]
    against: list[Fact] = []
    event = next(
        (e for e in reversed(facts.memory_failures) if e.pfn == match[1] and e.page_type), None
    )
    if event is not None:
        evidence.append(
            Fact(rule=rule, fact=f"the kernel called it {event.page_type!r}: {event.action}")
        )
        if event.page_type in _EARLIER_WORDS:
            evidence.append(
                Fact(
                    rule=rule,
                    fact=f"this kernel panics for {event.page_type!r} too: it carries an earlier form of the series than Linux 7.3",
                )
            )
    if facts.sysctl:
        evidence.append(
            Fact(rule=rule, fact=f"vm.panic_on_unrecoverable_memory_failure is {facts.sysctl}")
        )
    page_evidence(rule, facts, pfn, evidence)
    records_evidence(rule, facts, pfn, evidence)
    kind = page.owner.kind if page is not None and page.owner is not None else None
    if kind not in (None, "unknown", *SYSCTL_OWNERS) and not (
        event and event.page_type in _EARLIER_WORDS
    ):
        against.append(
            Fact(
                rule=rule,
                fact=f"the dump shows a page of kind {kind}, which the sysctl does not panic for: "
                "the kernel may have mistaken a page in transit (a race that its authors discuss)",
            )
        )
    if page is not None and page.hwpoison is False:
        against.append(Fact(rule=rule, fact="PG_hwpoison is not set on the page"))
    cause = (
        "an injected memory failure" if facts.is_injected(pfn) else "an uncorrectable memory error"
    )
    if facts.is_injected(pfn):
        against.append(
            Fact(rule=rule, fact="the failure was injected by software, not reported by hardware")
        )
    return Verdict(
        kind="unrecoverable-panic",
        confidence="certain",
        summary=f"The kernel panicked at once on {cause} in {page_words(page, pfn)}, which it could not recover.",
        evidence=tuple(evidence),
        against=tuple(against),
    )


def recovery_disabled(facts: Facts) -> Verdict | None:
    """vm.memory_failure_recovery is 0: the kernel panics on any memory failure.

    The panic's words are "Memory failure on page PFN" (mm/memory-failure.c, memory_failure).
    """
    rule = "recovery-disabled"
    match = _NO_RECOVERY_PANIC.match(panic_message(facts))
    if match is None:
        return None
    pfn = int(match[1], 16)
    evidence = [
        Fact(rule=rule, fact=f"the panic's words: {panic_message(facts)!r}"),
        Fact(rule=rule, fact="the kernel says so only where vm.memory_failure_recovery is 0"),
    ]
    page_evidence(rule, facts, pfn, evidence)
    records_evidence(rule, facts, pfn, evidence)
    return Verdict(
        kind="fatal-hardware-error",
        confidence="certain",
        summary=f"The kernel panicked on a memory error in {page_words(facts.pages.get(pfn), pfn)}, because recovery is turned off.",
        evidence=tuple(evidence),
    )


def fatal_record(facts: Facts) -> Verdict | None:
    """The CPU or the firmware reported a fatal error, and the kernel panicked on that.

    x86: the panic messages of arch/x86/kernel/cpu/mce/core.c, with the last machine-check record.
    Firmware: "GHES: Fatal hardware error", with the sections of the last record.  Which of memory
    and something else it was, the record tells.  An earlier failure of the same page makes the
    crash a later consequence: see crash-in-page.
    """
    rule = "fatal-record"
    message = panic_message(facts)
    from_mce, from_firmware = _MCE_PANIC.match(message), _GHES_PANIC.match(message)
    source = (
        "mce"
        if from_mce
        else "ghes"
        if from_firmware
        else "edac"
        if _EDAC_PANIC.search(message)
        else "cxl"
        if _CXL_PANIC.match(message)
        else None
    )
    if source is None:
        return None
    if any(e.pfn == f"{tie.pfn:#x}" for tie in facts.ties for e in facts.unrecovered()):
        return None
    evidence = [Fact(rule=rule, fact=f"the panic's words: {message!r}")]
    records = _final_records(facts, source)
    for record in records:
        evidence.append(Fact(rule=rule, fact=record_words(record)))
    memory = [r for r in records if r.is_memory]
    if records and not memory and all(r.is_memory is False for r in records):
        return Verdict(
            kind="hardware-not-memory",
            confidence="high",
            summary=f"The machine died of a hardware error that is not memory: {what_of(records[-1])}.",
            evidence=tuple(evidence),
        )
    named = next((r for r in [*memory, *records] if r.physical_address), None)
    if not records:
        return Verdict(
            kind="inconclusive",
            confidence="low",
            summary="The machine died of a hardware error, but no record of it is left to say of what.",
            evidence=tuple(evidence),
        )
    if not memory and named is None:
        return Verdict(
            kind="inconclusive",
            confidence="low",
            summary="The machine died of a hardware error; its record does not say whether of memory.",
            evidence=tuple(evidence),
        )
    where = "memory"
    if named is not None and named.physical_address is not None:
        pfn = facts.pfn_of(named.physical_address)
        where = f"memory at {named.physical_address}"
        if pfn is not None:
            where = page_words(facts.pages.get(pfn), pfn)
            page_evidence(rule, facts, pfn, evidence)
    return Verdict(
        kind="fatal-hardware-error",
        confidence="certain" if memory else "medium",
        summary=f"The {'CPU' if from_mce else 'firmware' if from_firmware else 'memory controller'} reported a fatal memory error in {where}, and the kernel panicked on it.",
        evidence=tuple(evidence),
        against=()
        if memory
        else (Fact(rule=rule, fact="the error code alone does not name memory; the address does"),),
    )


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


def crash_in_page(facts: Facts) -> Verdict | None:
    """An earlier failure was not recovered, and the crash has an address in that very page.

    The address may be that of the final machine check, the fault address, or a register of the
    oops; one flipped bit away from the page counts where the address itself is not canonical.
    """
    rule = "crash-in-page"
    if facts.panic is None or not facts.ties:
        return None
    tie = facts.ties[0]
    event = next((e for e in facts.unrecovered() if int(e.pfn, 16) == tie.pfn), None)
    if event is None and tie.pfn not in facts.untold():
        return None
    confidence: Confidence = "medium"  # a register may point there by chance
    if _consumed_poison(facts) and tie.flipped_bit is None and tie.provided is None:
        confidence = "certain"
    elif _consumed_poison(facts) or any(
        other.flipped_bit is not None or other.where == "the fault address"
        for other in facts.ties
        if other.pfn == tie.pfn and other.provided is None
    ):
        confidence = "high"
    text = f"{tie.where} holds {tie.address:#x}, which lies in the page"
    if tie.flipped_bit is not None:
        text = f"{tie.where} holds {tie.address:#x}: with bit {tie.flipped_bit} flipped back, it lies in the page"
    if tie.provided is not None:
        text += f" provided that {tie.provided}, which a log can't show"
    first = event_words(event) if event else "the log no longer shows the failure of the page"
    evidence = [Fact(rule=rule, fact=first), Fact(rule=rule, fact=text)]
    evidence.append(Fact(rule=rule, fact=f"the crash: {facts.oops or panic_message(facts)}"))
    if event is not None and event.time is not None and facts.panic.time is not None:
        evidence.append(
            Fact(
                rule=rule,
                fact=f"the crash came {facts.panic.time - event.time:.1f} s after the failure",
            )
        )
    page_evidence(rule, facts, tie.pfn, evidence)
    records_evidence(rule, facts, tie.pfn, evidence)
    return Verdict(
        kind="delayed-crash",
        confidence=confidence,
        summary=f"The crash touched {page_words(facts.pages.get(tie.pfn), tie.pfn)}, which a memory failure had hit before and the kernel had left in use.",
        evidence=tuple(evidence),
    )


def external_abort(facts: Facts) -> Verdict | None:
    """arm64: the CPU took an external abort, an SError or an ECC error, which memory most often raises.

    arch/arm64/mm/fault.c (do_sea) and kernel/traps.c: in kernel mode it prints no record of its own.
    After a failure that was not recovered, and with no register to compare, the abort itself
    speaks for that page; with a memory record shortly before it, for that one.
    """
    rule = "external-abort"
    panic = facts.panic
    if panic is None or not _ABORT.search(f"{panic_message(facts)} {facts.oops or ''}"):
        return None
    evidence = [Fact(rule=rule, fact=f"the crash: {facts.oops or panic_message(facts)}")]
    left = [e for e in facts.unrecovered() if not _after(e.time, panic.time)]
    if left and facts.registers_known:
        return None
    if left:
        pages = {e.pfn for e in left}
        return Verdict(
            kind="delayed-crash",
            confidence="medium" if len(pages) == 1 else "low",
            summary=f"The CPU took an external abort, as from bad memory, after a memory failure in page {left[-1].pfn} had been left unrecovered.",
            evidence=(*evidence, *(Fact(rule=rule, fact=event_words(e)) for e in left[:8])),
            against=(Fact(rule=rule, fact="the log has no address or register of the crash"),),
        )
    done = {int(e.pfn, 16) for e in facts.memory_failures}
    records = [
        r
        for r in facts.hardware_errors
        if r.is_memory
        and r.severity in ("recoverable", "fatal")
        and not _after(r.time, panic.time)
        and (r.time is None or panic.time is None or panic.time - r.time <= _ABORT_SECONDS)
        and facts.pfn_of(r.physical_address) not in done
    ]
    if records:
        where = f" at {records[-1].physical_address}" if records[-1].physical_address else ""
        return Verdict(
            kind="fatal-hardware-error",
            confidence="high",
            summary=f"The CPU took an external abort right after firmware had reported an uncorrected memory error{where}.",
            evidence=(*evidence, *(Fact(rule=rule, fact=record_words(r)) for r in records[-4:])),
        )
    return None


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
    against = [Fact(rule=rule, fact="no address of the crash lies in the page")]
    return Verdict(
        kind="possible-delayed-crash",
        confidence="low",
        summary=f"A memory failure in {page_words(facts.pages.get(int(events[-1].pfn, 16)), int(events[-1].pfn, 16))} was left unrecovered before the crash, but nothing ties the crash to it.",
        evidence=tuple(Fact(rule=rule, fact=event_words(e)) for e in events[:8]),
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
            fact="every memory failure in the log was recovered"
            if facts.memory_failures
            else "the log has no memory failure",
        )
    )
    evidence += [Fact(rule=rule, fact=event_words(e)) for e in facts.memory_failures[:8]]
    against = []
    if facts.poisoned_pages and not facts.memory_failures:
        against.append(
            Fact(rule=rule, fact=f"{len(facts.poisoned_pages)} pages are marked PG_hwpoison")
        )
    return Verdict(
        kind="unrelated",
        confidence="high" if not against else "medium",
        summary=f"The crash is explained without a memory error: {message}.",
        evidence=tuple(evidence),
        against=tuple(against),
    )


def fatal_record_at_end(facts: Facts) -> Verdict | None:
    """A log that ends with a fatal record: the kernel panics on each of them, though its words are missing.

    drivers/acpi/apei/ghes.c, __ghes_panic; a machine check with a corrupt context (PCC) in
    arch/x86/kernel/cpu/mce/core.c, do_machine_check.
    """
    rule = "fatal-record-at-end"
    if facts.crashed is not False or facts.dump.symbols != "log-only":
        return None
    records = [r for r in facts.hardware_errors if _kills(r)]
    if not records:
        return None
    last = [r for r in records if r.raw == records[-1].raw]
    memory = [r for r in last if r.is_memory]
    evidence = [Fact(rule=rule, fact=record_words(r)) for r in last[:4]]
    against = (Fact(rule=rule, fact="the panic itself is not in the log"),)
    if not memory:
        return Verdict(
            kind="hardware-not-memory",
            confidence="medium",
            summary=f"The log ends with a fatal hardware error that is not memory: {what_of(last[-1])}.",
            evidence=tuple(evidence),
            against=against,
        )
    where = f" at {memory[-1].physical_address}" if memory[-1].physical_address else ""
    return Verdict(
        kind="fatal-hardware-error",
        confidence="high",
        summary=f"The log ends with a fatal memory error{where}, on which the kernel panics.",
        evidence=tuple(evidence),
        against=against,
    )


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


def _consumed_poison(facts: Facts) -> bool:
    """Whether the crash itself was raised by the hardware: a machine check or an external abort."""
    words = f"{panic_message(facts)} {facts.oops or ''}"
    return bool(
        _MCE_PANIC.match(panic_message(facts))
        or re.search("synchronous external abort|SError", words)
    )


def _final_records(facts: Facts, source: str) -> list[HardwareError]:
    """The records that the panic was about: of the last GHES event, or the last machine check's."""
    records = [r for r in facts.hardware_errors if r.source == source]
    if source == "ghes":
        fatal = [r for r in records if r.severity == "fatal"] or [
            r for r in records if r.firmware and r.firmware.event_severity == "fatal"
        ]
        return [r for r in fatal if r.raw == fatal[-1].raw] if fatal else []
    if source == "edac":
        return [r for r in records if r.severity != "corrected"][-1:]
    if source == "cxl":
        return records[-1:]
    died = facts.panic.time if facts.panic else None
    exceptions = [
        r
        for r in records
        if r.mce
        and r.mce.mcgstatus
        and int(r.mce.mcgstatus, 16) & 4
        and (died is None or r.time is None or died - r.time < _FINAL_SECONDS)
    ]
    if exceptions and not exceptions[-1].is_memory:
        # the banks of one exception are printed together, the one that decided last
        last = exceptions[-1]
        cause = [r for r in exceptions if r.is_memory and not _after(last.time, r.time, 5.0)]
        return [*cause[-1:], last]
    return exceptions[-1:]


def _kills(record: HardwareError) -> bool:
    """Whether the kernel panics on such a record in any case."""
    if record.firmware is not None:
        return record.source == "ghes" and record.firmware.event_severity == "fatal"
    exception = record.mce and int(record.mce.mcgstatus or "0", 16) & 4
    return bool(exception) and record.severity == "fatal"


def _after(time: float | None, other: float | None, seconds: float = 0.0) -> bool:
    """Whether ``time`` is known to be more than ``seconds`` later than ``other``."""
    return time is not None and other is not None and time > other + seconds

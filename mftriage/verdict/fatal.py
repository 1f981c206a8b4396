"""Rules of a kernel that died at once of what the hardware reported, or of the page itself."""

from __future__ import annotations

import re

from mftriage.facts import Facts
from mftriage.model import SYSCTL_OWNERS, Fact, HardwareError, Verdict, hexed
from mftriage.verdict.evidence import (
    MCE_PANIC,
    event_words,
    is_after,
    page_evidence,
    page_words,
    panic_message,
    record_words,
    records_evidence,
    what_of,
)
from mftriage.verdict.later import deciding_tie

# What version 2 of the series, which some vendors carry, panics for besides.
_EARLIER_WORDS = ("high-order kernel page", "unknown page", "get hwpoison page")

_SYSCTL_PANIC = re.compile(r"Memory failure: (0x[0-9a-f]+): unrecoverable page")
_NO_RECOVERY_PANIC = re.compile(r"Memory failure on page ([0-9a-f]+)")
# drivers/acpi/apei/ghes.c, __ghes_panic; older kernels say it without the prefix.
_GHES_PANIC = re.compile(r"(?:GHES: )?Fatal hardware error")
_INIT_KILLED = re.compile(r"Attempted to kill init!(?: exitcode=0x([0-9a-f]{8}))?")
_INIT, _SIGBUS = 1, 7
_FINAL_SECONDS = 10.0  # between the record that a machine dies of and its panic
_EDAC_PANIC = re.compile(r"UE .* on ")
_CXL_PANIC = re.compile(r"CXL \w+ error")


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
        pfn=f"{pfn:#x}",
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
        pfn=f"{pfn:#x}",
        evidence=tuple(evidence),
    )


def init_killed(facts: Facts) -> Verdict | None:
    """The kernel killed init, whose page had failed, and can't go on without it.

    mm/memory-failure.c, kill_proc(): SIGBUS to every process that maps the page; kernel/exit.c,
    do_exit(): "Attempted to kill init!", with the signal as the exit code.
    """
    rule = "init-killed"
    match = _INIT_KILLED.match(panic_message(facts))
    killers = [e for e in facts.before_crash() if any(task.pid == _INIT for task in e.killed)]
    if match is None or not killers:
        return None
    event = killers[-1]
    pfn = int(event.pfn, 16)
    evidence = [
        Fact(rule=rule, fact=f"the panic's words: {panic_message(facts)!r}"),
        Fact(rule=rule, fact=f"{event_words(event)}; init (pid 1) was sent SIGBUS for it"),
    ]
    page_evidence(rule, facts, pfn, evidence)
    records_evidence(rule, facts, pfn, evidence)
    return Verdict(
        kind="fatal-hardware-error",
        confidence="certain" if match[1] and int(match[1], 16) & 0x7F == _SIGBUS else "high",
        summary=f"The kernel killed init for a memory error in {page_words(facts.pages.get(pfn), pfn)}, and panicked without it.",
        pfn=event.pfn,
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
    from_mce, from_firmware = MCE_PANIC.match(message), _GHES_PANIC.match(message)
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
    tie = deciding_tie(facts)
    if tie is not None and tie.how in ("record", "access"):
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
    where, pfn = "memory", None
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
        pfn=hexed(pfn),
        evidence=tuple(evidence),
        against=()
        if memory
        else (Fact(rule=rule, fact="the error code alone does not name memory; the address does"),),
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
        pfn=hexed(facts.pfn_of(memory[-1].physical_address)),
        evidence=tuple(evidence),
        against=against,
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
        survived = {int(e.pfn, 16) for e in facts.memory_failures if e.action == "recovered"}
        cause = [
            r
            for r in exceptions
            if r.is_memory
            and not is_after(last.time, r.time, 5.0)
            and facts.pfn_of(r.physical_address) not in survived
        ]
        return [*cause[-1:], last]
    return exceptions[-1:]


def _kills(record: HardwareError) -> bool:
    """Whether the kernel panics on such a record in any case."""
    if record.firmware is not None:
        return record.source == "ghes" and record.firmware.event_severity == "fatal"
    exception = record.mce and int(record.mce.mcgstatus or "0", 16) & 4
    return bool(exception) and record.severity == "fatal"

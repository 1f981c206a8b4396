"""What stands behind each rule: how to check it by hand, where it errs, and whose words it goes by.

The meaning of a rule is its docstring; this is the rest of ``mftriage explain RULE``.  The drgn
lines need a Program with the dump and its vmlinux (``drgn -c vmcore -s vmlinux``).
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

from mftriage.facts import Facts


class Background(NamedTuple):
    """What a sceptic wants to know of a rule; each field in lines."""

    verify: tuple[str, ...]
    errs: tuple[str, ...]
    sources: tuple[str, ...]


_FLAGS = "print(decode_page_flags(pfn_to_page(prog, PFN)))"
_LOG = "print(get_dmesg(prog).decode())"

BACKGROUND: dict[str, Background] = {
    "sysctl-panic": Background(
        (_LOG, _FLAGS, "print(find_containing_slab_cache(page_to_virt(pfn_to_page(prog, PFN))))"),
        (
            "The kernel may take a page in transit (being split, freed or migrated) for one of its "
            "own; the report then says that the dump shows another kind.",
            "A failure that a test injected fires it too: injected is told apart.",
        ),
        (
            "mm/memory-failure.c: action_result(), is_kernel_owned_page()",
            "Documentation/admin-guide/sysctl/vm.rst: panic_on_unrecoverable_memory_failure",
        ),
    ),
    "recovery-disabled": Background(
        (_LOG, 'print(prog["sysctl_memory_failure_recovery"])'),
        ("With recovery off the kernel also panics for pages that it could have recovered.",),
        ("mm/memory-failure.c: memory_failure()",),
    ),
    "init-killed": Background(
        (_LOG, _FLAGS),
        ("Init may have been killed by a SIGBUS of its own doing, such as a file that was cut.",),
        (
            "mm/memory-failure.c: kill_proc()",
            "kernel/exit.c: do_exit()",
        ),
    ),
    "fatal-record": Background(
        (_LOG, 'for cpu in for_each_online_cpu(prog): print(per_cpu(prog["hw_errs_seen"], cpu))'),
        (
            "A record of a cache or bus error can be the end of a memory error's way; only what "
            "names memory is called memory.",
            "A record from long before the panic is not taken for the one that it died of.",
        ),
        (
            "arch/x86/kernel/cpu/mce/core.c: mce_panic()",
            "drivers/acpi/apei/ghes.c: __ghes_panic()",
            "UEFI specification, appendix N (CPER); Intel SDM volume 3, chapter 17",
        ),
    ),
    "capture-kernel-log": Background(
        ("head vmcore-dmesg.txt  # in the folder that kdump wrote to: the log of the crash",),
        ("A machine that crashed while it saved a dump has both in one log.",),
        ("kernel command line: elfcorehdr=",),
    ),
    "external-abort": Background(
        (_LOG,),
        (
            "Buses and devices raise external aborts too; without registers in the log the page is "
            "a likely one, not a proven one.",
        ),
        (
            "arch/arm64/mm/fault.c: do_sea()",
            "arch/arm64/kernel/traps.c: arm64_serror_panic()",
        ),
    ),
    "fatal-record-at-end": Background(
        (),
        ("A machine may have been reset for another reason right after the record.",),
        (
            "drivers/acpi/apei/ghes.c: __ghes_panic()",
            "arch/x86/kernel/cpu/mce/core.c: do_machine_check()",
        ),
    ),
    "crash-on-request": Background(
        (_LOG, "print(prog.crashed_thread().stack_trace())"),
        ("Somebody may have asked because the machine was already failing: see memory_failures.",),
        ("drivers/tty/sysrq.c: sysrq_handle_crash()",),
    ),
    "crash-in-page": Background(
        (
            _FLAGS,
            "print(hex(page_to_virt(pfn_to_page(prog, PFN)).value_()))  # compare with the registers",
            "print(prog.crashed_thread().stack_trace()[0].registers())",
            "print(follow_phys(prog['init_mm'].address_of_(), ADDRESS) >> 12)  # of a stack, a module",
            "print(hex(prog.read_u64(ADDRESS)))  # whether the faulting pointer stands there",
        ),
        (
            "A register can point into the page without having to do with the crash (confidence "
            "medium); the fault's own address can't.",
            "An address one bit away counts only where it is not canonical.",
            "A wild pointer that a kernel bug wrote into an object of a bad page looks like a bad cell's.",
        ),
        (
            "arch/arm64/mm/fault.c: do_sea(); ESR_ELx.FnV in the Arm ARM",
            "arch/x86/mm/fault.c: pgtable_bad(), show_fault_oops(); set_mce_nospec() in asm/set_memory.h",
        ),
    ),
    "unrecovered-before": Background(
        (_LOG, _FLAGS),
        (
            "It says no more than that bad memory was in use: an ordinary kernel bug can come at "
            "any time.",
        ),
        ("mm/memory-failure.c: struct memory_failure_stats, action_result()",),
    ),
    "raised-by-hardware": Background(
        (_LOG,),
        ("The hardware raises these for buses and devices as well as for memory.",),
        (
            "arch/arm64/kernel/traps.c: arm64_serror_panic(); arch/arm64/mm/fault.c: do_sea()",
            "arch/x86/kernel/nmi.c: io_check_error(), unknown_nmi_error()",
        ),
    ),
    "crash-without-failure": Background(
        (_LOG, 'print(prog["num_poisoned_pages"])'),
        ("A silent error, which no hardware reported, looks like an ordinary bug.",),
        ("mm/memory-failure.c",),
    ),
    "no-crash": Background(
        ('print(prog["panic_cpu"])', _LOG),
        ("A dump that a hypervisor took of a hung machine has no panic either.",),
        ("kernel/panic.c: panic_cpu",),
    ),
    "not-enough": Background(
        (),
        ("Whatever not_checked lists may have held the answer.",),
        (),
    ),
}


def explained(name: str, rule: object) -> str:
    """All that there is to say of a rule, as text."""
    background = BACKGROUND[name]
    parts = [f"{name}\n\n{inspect.getdoc(rule) or ''}"]
    for title, lines in (
        ("Verify by hand, in drgn", background.verify),
        ("Where it may err", background.errs),
        ("Sources", background.sources),
    ):
        if lines:
            parts.append("\n".join([f"{title}:", *(f"  {line}" for line in lines)]))
    return "\n\n".join(parts)


def why(facts: Facts) -> str:
    """How the verdict came about: each rule that was asked, in order, and the one that decided."""
    from mftriage.verdict import RULES

    lines = []
    for name, rule in RULES.items():
        verdict = rule(facts)
        if verdict is None:
            first = (inspect.getdoc(rule) or "").splitlines()[0]
            lines.append(f"{name:24} does not apply: {first}")
            continue
        lines.append(f"{name:24} decides: {verdict.kind}, {verdict.confidence}")
        lines += [f"{'':24}   + {row.fact}" for row in verdict.evidence]
        lines += [f"{'':24}   - {row.fact}" for row in verdict.against]
        break
    return "\n".join(lines)

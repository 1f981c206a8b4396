"""The verdict: ordered rules, the first that applies decides, each with its evidence.

A rule's docstring is its documentation page (``mftriage explain RULE``).  A new rule is one new
function in the file of its family, placed where its certainty belongs.
"""

from __future__ import annotations

from collections.abc import Callable

from mftriage.facts import Facts
from mftriage.model import Fact, Verdict
from mftriage.verdict import fatal, later, plain

Rule = Callable[[Facts], Verdict | None]

RULES: dict[str, Rule] = {
    "sysctl-panic": fatal.sysctl_panic,
    "recovery-disabled": fatal.recovery_disabled,
    "init-killed": fatal.init_killed,
    "fatal-record": fatal.fatal_record,
    "capture-kernel-log": plain.capture_kernel_log,
    "crash-on-request": plain.crash_on_request,
    "crash-in-page": later.crash_in_page,
    "external-abort": later.external_abort,
    "unrecovered-before": later.unrecovered_before,
    "raised-by-hardware": plain.raised_by_hardware,
    "crash-without-failure": plain.crash_without_failure,
    "fatal-record-at-end": fatal.fatal_record_at_end,
    "no-crash": plain.no_crash,
    "not-enough": plain.not_enough,
}


def decide(facts: Facts) -> tuple[Verdict, str]:
    """The verdict, and the id of the rule that gave it."""
    for name, rule in RULES.items():
        verdict = rule(facts)
        if verdict is not None:
            return verdict, name
    return Verdict(kind="inconclusive", confidence="low", summary="No rule applies."), "not-enough"


def fact(rule: str, text: str) -> Fact:
    """A row of evidence."""
    return Fact(rule=rule, fact=text)

"""The report of a triage as a document for a ticket, and its title."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from mftriage.model import HardwareError, Triage
from mftriage.render import words
from mftriage.render.dimm import dimm_line, part
from mftriage.render.hardware import (
    ErrorRow,
    corrected_line,
    error_rows,
    record_facts,
    record_line,
)
from mftriage.tickets.document import (
    Block,
    Document,
    Items,
    Lines,
    Paragraph,
    Section,
    Steps,
    Table,
)

__all__ = ["report", "sighting", "title"]

_ROWS = 40
_RAW_LINES = 100


def report(triage: Triage, files: Iterable[str], fingerprint: str) -> Document:
    """Return the report; ``files`` are the names of what goes with it."""
    tail = _tail(triage, files, fingerprint)
    return Document(_heading(triage), _lead(triage), tuple(_sections(triage)), tail)


def sighting(triage: Triage, files: Iterable[str], fingerprint: str) -> Document:
    """Return what to say where the ticket of the same fault is there already: in short, who and when."""
    dump = triage.dump
    when = words.moment(dump.crash_time) if dump.crash_time else "time not known"
    seen = Paragraph(f"Seen again: {dump.hostname or 'host not known'}, {when}.", strong=True)
    sections = [
        s for s in _sections(triage) if s.heading in ("At a glance", "Which part", "Evidence")
    ]
    tail = _tail(triage, files, fingerprint)
    return Document(_heading(triage), (seen, *_lead(triage)), tuple(sections), tail)


def title(triage: Triage, most: int, tag: str | None = None) -> str:
    """Return the ticket's title: of what, on which host, and what happened; cut on a word.

    ``tag`` goes before it, for systems that only search titles.
    """
    dimm = triage.dimm
    part = (dimm.label or dimm.locator) if dimm else None
    where = " on ".join(filter(None, (part, triage.dump.hostname)))
    text = words.VERDICTS[triage.verdict.kind].title + (f": {where}" if where else "")
    if triage.page:
        text += f", page {triage.page.pfn}"
    text = _plain((f"[{tag}] " if tag else "") + words.visible(text))
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    return (cut[: cut.rindex(" ")] if " " in cut else cut).rstrip(" ,:") + "…"


def _plain(text: str) -> str:
    """Return a title in which nothing is a mention, a reference or markup in any system."""
    text = re.sub(r"[^\w\s.,:()\[\]+/-]|://|(?<=\w)/(?=/)|_(?=_)", "-", text)
    return re.sub(r"(?i)\b(www)\.|\b(gh|[A-Z]{2,})-(?=\d)", lambda m: m[0][:-1] + "_", text)


def _heading(triage: Triage) -> str:
    return words.VERDICTS[triage.verdict.kind].title


def _lead(triage: Triage) -> tuple[Block, ...]:
    verdict = triage.verdict
    return (
        Paragraph(verdict.summary, strong=True),
        Items((("Verdict", f"{verdict.kind}, {verdict.confidence}"),)),
    )


def _tail(triage: Triage, files: Iterable[str], fingerprint: str) -> tuple[Block, ...]:
    named = ", ".join(files)
    made = [("Made by", f"{triage.tool.name} {triage.tool.version}")]
    made += [("Signature", triage.signature)] if triage.signature else []
    made += [("Fingerprint", fingerprint)]
    made += [("Attached", named)] if named else []
    return (Items(tuple(made)),)


def _sections(triage: Triage) -> Iterator[Section]:
    """The sections that have something to say, the weightiest first."""
    for heading, *blocks in _all(triage):
        said = tuple(block for block in blocks if not _empty(block))
        if said:
            yield Section(heading, said)


def _empty(block: Block) -> bool:
    match block:
        case Paragraph(text=held) | Steps(texts=held) | Lines(lines=held):
            return not held
        case Items(rows=held) | Table(rows=held):
            return not held


def _all(triage: Triage) -> Iterator[tuple[str, *tuple[Block, ...]]]:
    verdict, panic, page = triage.verdict, triage.panic, triage.page
    errors = error_rows(triage)
    found = part(triage)
    yield "At a glance", _glance(triage, errors)
    yield "What to do", Steps(triage.actions[:_ROWS])
    if found:
        sure = f" How sure: {found.sure}." if found.sure else ""
        yield (
            "Which part",
            Paragraph(f"{found.name}. {found.how}{sure}"),
            Items(
                (("One of", ", ".join(found.candidates)),) if found.candidates else (), code=True
            ),
            Items(tuple(found.facts), code=True),
        )
    yield "Hardware errors", _errors(errors)
    yield "Evidence", _table(("Rule", "For"), [(e.rule, e.fact) for e in verdict.evidence])
    yield "Against it", _table(("Rule", "Against"), [(e.rule, e.fact) for e in verdict.against])
    yield (
        "Not checked",
        _table(
            ("What", "Why, and what to do"),
            [(row.what, f"{row.why}: {row.remedy}") for row in triage.not_checked],
        ),
    )
    yield (
        "Timeline",
        _table(
            ("Seconds since boot", "After the first", "Event"),
            [(step.time, step.since_first or "", step.text) for step in words.steps(triage)],
        ),
    )
    yield (
        "Memory failures",
        _table(
            ("Seconds since boot", "Page", "Kernel's words"),
            [
                (words.clock(event.time), event.pfn, words.failure_line(event))
                for event in triage.memory_failures
            ],
        ),
    )
    yield (
        "Corrected errors",
        Steps(tuple(corrected_line(entry) for entry in triage.corrected_errors[:_ROWS])),
    )
    frames = panic.trace if panic else ()
    yield (
        "Stack",
        Lines(tuple(f"{words.frame(one)}  {one.source or ''}".rstrip() for one in frames)),
    )
    for index, row in enumerate(errors[:_ROWS], 1):
        heading = f"Hardware record {index} of {len(errors)}"
        yield heading, Items(tuple(record_facts(row.record)), code=True), _raw(row.record)
    yield "Page", Items(tuple(words.page_facts(page)) if page else (), code=True)
    yield (
        "Poisoned pages",
        _table(
            ("Page", "Owner"), [(p.pfn, words.OWNERS[p.owner_kind]) for p in triage.poisoned_pages]
        ),
    )
    facts = [*words.host_facts(triage), *words.dump_facts(triage.dump)]
    yield "Host", Items(tuple(facts), code=True)


def _glance(triage: Triage, errors: list[ErrorRow]) -> Items:
    page, panic, dimm = triage.page, triage.panic, triage.dimm
    owner = page and page.owner
    rows = (
        ("Page", page and words.page_line(page)),
        ("Owner", owner and words.owner_line(owner)),
        ("Object", owner and owner.object and words.object_line(owner.object)),
        ("Kernel said", words.kernel_words(triage)),
        ("Hardware", record_line(errors[0]) if errors else None),
        ("DIMM", dimm and dimm_line(dimm)),
        ("Crash", panic and (panic.message or "no message")),
        ("Crashed", panic and words.crash_place(panic)),
        ("Host", words.host_line(triage.dump)),
    )
    return Items(tuple((label, value) for label, value in rows if value))


def _errors(errors: list[ErrorRow]) -> Table:
    rows = [
        (
            row.source,
            "; ".join(row.place),
            "; ".join(row.when),
            ". ".join(
                (*(mark.upper() for mark in row.marks), row.what, f"{row.harm} {row.outcome or ''}")
            ).strip(),
        )
        for row in errors
    ]
    return _table(("Told by", "Where", "When, after boot", "What, and how bad"), rows)


def _raw(record: HardwareError) -> Lines:
    more = len(record.raw) - _RAW_LINES
    end = (f"… and {words.count(more, 'line')} more",) if more > 0 else ()
    return Lines((*record.raw[:_RAW_LINES], *end))


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    more = len(rows) - _ROWS
    end = [("", *[""] * (len(heads) - 2), f"… and {more} more")] if more > 0 else []
    return Table(heads, (*rows[:_ROWS], *end))

"""The report for a ticket, in the Markdown that GitHub and GitLab share.

Strings of a dump get in through two functions: ``prose`` for sentences and ``code`` for values.
Neither lets a mention, a reference, a link, an image, HTML or a table's end through.  The only HTML is
what folds a record away (``<details>``), and none of its words come from a dump.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mftriage.model import DecodedRegister, Triage
from mftriage.render import words
from mftriage.render.dimm import part
from mftriage.render.glance import glance
from mftriage.render.hardware import (
    ErrorRow,
    corrected_line,
    error_rows,
    history_line,
    record_facts,
)

# GitHub takes 65,536 characters in a body, and whoever posts it may add a few.
LIMIT = 60_000

_ROWS = 40
_LONGEST = 1000
_RAW_LINES = 200

# What a word must look like to stand in a sentence as it is.  All others become code spans: a
# backslash before "@" or "#" is gone when GitHub looks for mentions and references, and in a code
# span neither is looked for.
_PLAIN = re.compile(
    r"""["'(]*                      # opening
        [^\W_]+ (?:[-/.'=+,][^\W_]+)*   # letters and digits, joined singly
        [)"'.,;:%?!]*               # closing""",
    re.VERBOSE,
)
# Plain to look at, but GitHub, GitLab or Redmine makes a link of it: www.example.com, GH-12,
# CVE-2026-1, a commit or a revision (r12).
_REFERENCE = re.compile(r"(?i)www\.|[a-z]{2}-\d|^\W*(?:r\d+|[0-9a-f]{7,40})\W*$")
_LIST_ITEM = re.compile(r"\d+[.)]")
_MARKS = frozenset("-—…→←")
_CLOSING = ").,;:"


def render(triage: Triage, *, color: bool = False, width: int = 100) -> str:
    """Return the report as Markdown of at most 60,000 characters; the options mean nothing here."""
    verdict = triage.verdict
    tail = _footer(triage)
    summary = prose(verdict.summary)
    report = (
        f"## {words.VERDICTS[verdict.kind].title}\n\n"
        + (f"**{summary}**\n\n" if summary else "")
        + f"Verdict: `{verdict.kind}`, confidence: {verdict.confidence}\n"
    )
    left_out: list[str] = []
    for heading, body in _sections(triage):
        if not body:
            continue
        section = f"\n### {heading}\n\n{body}\n"
        # 200 for the line that says what was left out.
        if len(report) + len(section) + len(tail) + 200 + sum(map(len, left_out)) > LIMIT:
            left_out.append(heading)
        else:
            report += section
    if left_out:
        report += f"\nLeft out for length: {', '.join(left_out)}. The JSON has all of it.\n"
    return report + tail


def _sections(triage: Triage) -> Iterable[tuple[str, str]]:
    verdict, panic, page = triage.verdict, triage.panic, triage.page
    errors = error_rows(triage)
    yield (
        "At a glance",
        "\n".join(f"- **{label}**: {prose(value)}" for label, value in glance(triage, errors)),
    )
    yield (
        "What to do",
        "\n".join(f"1. {with_commands(action)}" for action in triage.actions[:_ROWS]),
    )
    yield "Which part", _part(triage)
    yield "Hardware errors", _errors(errors)
    yield "Corrected errors", _lines([corrected_line(c) for c in triage.corrected_errors])
    yield "The host's history", _lines([history_line(past) for past in triage.history])
    yield "Evidence", table(("Rule", "For"), [(row.rule, row.fact) for row in verdict.evidence])
    yield (
        "Against it",
        table(("Rule", "Against"), [(row.rule, row.fact) for row in verdict.against]),
    )
    yield (
        "Not checked",
        table(
            ("What", "Why", "What to run or do"),
            [(row.what, row.why, row.remedy) for row in triage.not_checked],
            "prose",
            "prose",
            "code",
        ),
    )
    yield "Timeline", table(("Seconds since boot", "After the first", "Event"), _timeline(triage))
    yield "Page", _facts([*_flags(triage), *words.page_facts(page)]) if page else ""
    yield "Owner", _owner(triage)
    yield (
        "Memory failures",
        table(
            ("Seconds since boot", "Page", "Kernel's words"),
            [
                (words.clock(event.time), event.pfn, words.failure_line(event))
                for event in triage.memory_failures
            ],
        ),
    )
    yield (
        "Poisoned pages",
        table(
            ("Page", "Owner"),
            [(page.pfn, words.OWNERS[page.owner_kind]) for page in triage.poisoned_pages],
        ),
    )
    yield "Host", _facts([*words.host_facts(triage), *words.dump_facts(triage.dump)])
    trace = panic.trace if panic else ()
    yield "Stack", fence(f"{words.frame(one)}  {one.source or ''}".rstrip() for one in trace)
    syndrome = panic and panic.decoded_syndrome
    if syndrome:
        yield "Exception syndrome", _register(syndrome)
    for index, row in enumerate(errors[:_ROWS], 1):
        yield f"Hardware record {index} of {len(errors)}", _record(row)


def _timeline(triage: Triage) -> list[tuple[str, str, str]]:
    return [(step.time, step.since_first or "", step.text) for step in words.steps(triage)]


def _flags(triage: Triage) -> words.Facts:
    flags = triage.page.flags if triage.page else None
    return [] if flags is None else [("flags", " ".join(flags) or "none")]


def _owner(triage: Triage) -> str:
    owner = triage.page and triage.page.owner
    if not owner:
        return ""
    inside = words.object_facts(owner.object) if owner.object else []
    return _facts([("kind", owner.kind), *words.owner_facts(owner), *inside])


def _part(triage: Triage) -> str:
    found = part(triage)
    if found is None:
        return ""
    sure = f" How sure: {found.sure}." if found.sure else ""
    candidates = "\n".join(f"- {code(name)}" for name in found.candidates[:_ROWS])
    return "\n\n".join(
        filter(
            None,
            (f"**{code(found.name)}** {prose(found.how)}{sure}", candidates, _facts(found.facts)),
        )
    )


def _errors(errors: list[ErrorRow]) -> str:
    rows = [
        (
            ". ".join((*(mark.upper() for mark in row.marks), row.what)),
            "; ".join(row.when),
            f"{row.harm} {row.outcome or ''}".strip(),
            "; ".join(row.place),
            row.source,
        )
        for row in errors
    ]
    heads = ("What", "When, after boot", "How bad", "Where", "Told by")
    return table(heads, rows, *["prose"] * len(heads))


def _lines(entries: list[str]) -> str:
    lines = [f"- {prose(entry)}" for entry in entries[:_ROWS]]
    more = len(entries) - _ROWS
    return "\n".join([*lines, *([f"- … and {more} places more"] if more > 0 else [])])


def _record(row: ErrorRow) -> str:
    """The record in full, folded away."""
    record = row.record
    parts = [_facts([("origin", row.source), *record_facts(record)])]
    parts += [_register(register) for register in record.decoded]
    if record.raw:
        parts.append(fence(record.raw))
    return _folded("All that the record says", "\n\n".join(filter(None, parts)))


def _folded(summary: str, body: str) -> str:
    """Return ``body`` under a line that unfolds it; ``summary`` is ours, and plain."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def _register(register: DecodedRegister) -> str:
    rows = [(f.bits, f.name or "", f.value, f.meaning or "") for f in register.fields]
    heads = ("Bits", "Name", "Value", "Meaning")
    title = f"{code(register.register)} is {code(register.value)}, by {prose(register.source)}:"
    return f"{title}\n\n{table(heads, rows)}" if rows else title


def _footer(triage: Triage) -> str:
    signature = f", signature {code(triage.signature)}" if triage.signature else ""
    return f"\nMade by {code(triage.tool.name)} {code(triage.tool.version)}{signature}\n"


def _facts(rows: words.Facts) -> str:
    return "\n".join(f"- {label}: {code(value)}" for label, value in rows)


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], *kinds: str) -> str:
    """Lay out a table; ``kinds`` says "code" or "prose" by column.

    The first column is code and the last prose where it is not said.
    """
    rows = list(rows)
    if not rows:
        return ""
    writers = [code if kind == "code" else prose for kind in kinds] or [
        *[code] * (len(heads) - 1),
        prose,
    ]
    lines = [heads, ("---",) * len(heads)]
    for row in rows[:_ROWS]:
        lines.append(tuple(_cell(write(value)) for write, value in zip(writers, row, strict=True)))
    if len(rows) > _ROWS:
        lines.append((f"… and {len(rows) - _ROWS} more", *("",) * (len(heads) - 1)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(markdown: str) -> str:
    # Dialects differ on a pipe after a backslash; none of them can be talked out of this one.
    return markdown.replace("|", "¦")


def prose(text: str) -> str:
    """Return a sentence with every word that is not plain in a code span."""
    text = words.clip(words.visible(text), _LONGEST)
    parts = text.split()
    # As the first word, "1." or "-" would start a list.
    lead = [code(word) for word in parts[:1] if word in _MARKS or _LIST_ITEM.fullmatch(word)]
    return " ".join([*lead, *map(_word, parts[len(lead) :])])


def with_commands(text: str) -> str:
    """Return a sentence with what stands between its back-ticks as code spans."""
    pieces = words.clip(words.visible(text), _LONGEST).split("`")
    if not len(pieces) % 2:  # one that has no partner
        return prose(text)
    made = ""
    for at, piece in enumerate(pieces):
        if at % 2:
            made += f" {code(piece)}" if made else code(piece)
            continue
        rest = piece.lstrip(_CLOSING) if at else piece
        made += piece[: len(piece) - len(rest)]  # what follows a command closely
        sentence = prose(rest)
        made += f" {sentence}" if made and sentence else sentence
    return made


def _word(word: str) -> str:
    if word in _MARKS or (_PLAIN.fullmatch(word) and not _REFERENCE.search(word)):
        return word
    bare = word.rstrip(".,;:")
    return code(bare) + word[len(bare) :] if bare else code(word)


def code(text: str) -> str:
    """Return ``text`` as a code span, whatever back-ticks it has."""
    text = words.clip(words.visible(text), _LONGEST)
    if not text.strip():
        return ""
    ticks = "`" * (_longest_run(text) + 1)
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(lines: Iterable[str]) -> str:
    """Return lines of a log as a fenced block that nothing inside can end."""
    lines = [words.clip(words.visible(line), _LONGEST) for line in lines]
    if not lines:
        return ""
    more = len(lines) - _RAW_LINES
    shown = lines[:_RAW_LINES] + ([f"… and {words.count(more, 'line')} more"] if more > 0 else [])
    ticks = "`" * max(3, _longest_run("\n".join(shown)) + 1)
    return "\n".join((f"{ticks}text", *shown, ticks))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)

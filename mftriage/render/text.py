"""The terminal report: what an on-call engineer reads first, on at most 25 lines."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from mftriage.model import Owner, Triage
from mftriage.render import words
from mftriage.render.dimm import dimm_line
from mftriage.render.hardware import corrected_line, error_rows, history_line, record_line
from mftriage.render.pagemap import PageMap, page_map

LINES = 25

_LABEL = 13
_NARROWEST = 48
# Longer than 25 lines of any terminal: nothing beyond it could be shown.
_LONGEST = 4000

_TONES = {"bad": "1;97;41", "warn": "1;30;43", "calm": "1;30;42", "unknown": "1;30;47"}
_BOLD, _DIM, _PLAIN = "1", "2", ""


class _Block(NamedTuple):
    """A label and its items, each of which starts on a line of its own.

    ``least`` lines are the block's own; it gets up to ``most`` if others leave some over.
    """

    label: str
    items: list[str]
    least: int
    most: int
    style: str = _PLAIN
    indent: int = _LABEL
    badge: str = ""


def render(triage: Triage, *, color: bool = False, width: int = 100) -> str:
    """Return the terminal report: at most 25 lines of at most ``width`` columns (48 at least)."""
    width = max(width, _NARROWEST)
    tone = _TONES[words.VERDICTS[triage.verdict.kind].tone] if color else None
    groups = [
        kept
        for group in ([_verdict(triage)], _rows(triage, width), _lists(triage))
        if (kept := [block for block in group if any(map(str.split, block.items))])
    ]
    blocks = [block for group in groups for block in group]
    shares = iter(_share(blocks, width, LINES - len(groups) + 1))
    parts = (
        [line for block in group for line in _draw(block, next(shares), width, tone)]
        for group in groups
    )
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _verdict(triage: Triage) -> _Block:
    verdict = triage.verdict
    badge = f"[{verdict.kind}, {verdict.confidence}]"
    return _Block("", [f"{badge} {verdict.summary}"], 2, 3, _BOLD, indent=0, badge=badge)


def _rows(triage: Triage, width: int) -> list[_Block]:
    page, panic = triage.page, triage.panic
    owner = page and page.owner
    bad = owner and owner.object
    records = [record_line(row) for row in error_rows(triage)]
    inside = page_map(triage)
    poisoned = triage.poisoned_pages
    return [
        _Block("page", [words.page_line(page)] if page else [], 1, 2, _BOLD),
        _Block("owner", [_owner(owner)] if owner else [], 1, 2, _BOLD),
        _Block("", [words.object_line(bad)] if bad else [], 1, 2),
        _Block("", [_strip(inside)] if inside and width >= _LABEL + 85 else [], 0, 1, _DIM),
        _Block("kernel said", [words.kernel_words(triage) or ""], 1, 2),
        _Block("hardware", records, 2, 4),
        _Block("DIMM", [dimm_line(triage.dimm)] if triage.dimm else [], 1, 2, _BOLD),
        _Block("corrected", [corrected_line(c) for c in triage.corrected_errors], 0, 2),
        _Block("history", [history_line(past) for past in triage.history], 0, 2),
        _Block("crash", [panic.message or "no message"] if panic else [], 1, 2, _BOLD),
        _Block("", [words.crash_place(panic)] if panic else [], 1, 1),
        _Block("", [words.stack(panic)] if panic else [], 1, 1),
        _Block("poisoned", [_poisoned(triage)] if len(poisoned) > 1 else [], 0, 1),
        _Block("host", [words.host_line(triage.dump)], 1, 2),
        _Block("dump", [words.dump_line(triage.dump)], 1, 1),
    ]


def _lists(triage: Triage) -> list[_Block]:
    verdict = triage.verdict
    return [
        _Block("evidence", [row.fact for row in verdict.evidence], 4, 8),
        _Block("against", [row.fact for row in verdict.against], 1, 4),
        _Block("do", list(triage.actions), 4, 6, _BOLD),
        _Block(
            "not checked",
            [f"{row.what}: {row.why} → {row.remedy}" for row in triage.not_checked],
            3,
            8,
        ),
    ]


def _owner(owner: Owner) -> str:
    """Whose page it is; of a slab object, which has a line of its own, only the cache."""
    if owner.object is None or owner.slab_cache is None:
        return words.owner_line(owner)
    shared = f", {words.count(owner.objects, 'object')} in the slab" if owner.objects else ""
    return f"slab cache {owner.slab_cache}{shared}"


def _poisoned(triage: Triage) -> str:
    pages = triage.poisoned_pages
    some = ", ".join(f"{page.pfn} {words.OWNERS[page.owner_kind]}" for page in pages[:8])
    return f"{words.count(len(pages), 'page')}: {some}"


def _strip(inside: PageMap) -> str:
    """Draw the page as 64 cells: of one cache line each where the page has 4 KiB."""
    cell = inside.page_size // 64
    cells = ["·"] * 64
    if inside.start is not None and inside.end is not None:
        for index in range(inside.start // cell, (inside.end - 1) // cell + 1):
            cells[index] = "▒"
    cells[inside.bad // cell] = "█"
    legend = " █ bad line" if inside.start is None else " █ bad line ▒ object"
    return "".join(cells) + legend


def _share(blocks: list[_Block], width: int, left: int) -> list[int]:
    """Divide ``left`` lines: to each block its own first, then what remains, in order.

    The blocks' own lines and the blank ones never come to more than 25.
    """
    wanted = [min(_height(block, width), block.most) for block in blocks]
    shares = [min(want, block.least) for want, block in zip(wanted, blocks, strict=True)]
    left -= sum(shares)
    # What to do comes first, blocks that are only nice to have come last.
    for index in sorted(
        range(len(blocks)), key=lambda index: (blocks[index].label != "do", not blocks[index].least)
    ):
        more = min(wanted[index] - shares[index], left)
        shares[index] += more
        left -= more
    return shares


def _height(block: _Block, width: int) -> int:
    # An item takes a line at least, so that no more of them than lines can matter.
    return sum(len(wrap(item, width - block.indent)) for item in block.items[: block.most])


def _cut(items: list[str], share: int, width: int) -> list[str]:
    """Wrap the items into ``share`` lines; say how many did not get in."""
    lines: list[str] = []
    for index, item in enumerate(items):
        after = len(items) - index - 1
        wrapped = wrap(item, width)
        # One line is kept to say that there is more, unless all the rest may still fit.
        room = share - len(lines) - (after > 0)
        if len(wrapped) <= room:
            lines += wrapped
            continue
        if room > 0 and not lines:
            lines += [*wrapped[: room - 1], shorten(" ".join(wrapped[room - 1 :]), width)]
        else:
            after += 1
        if after and share > len(lines):
            lines.append(f"… and {after} more (see -f json)")
        break
    return lines


def wrap(text: str, width: int) -> list[str]:
    """Break ``text`` at spaces, or inside of words that are too long, into lines of ``width``."""
    lines, line = [], ""
    for word in words.clip(words.visible(text), _LONGEST).split():
        joined = f"{line} {word}" if line else word
        if cells(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        line = word
        while cells(line) > width:
            head = _fitting(line, width)
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line] if line else lines


def shorten(text: str, width: int) -> str:
    """Return as much of ``text`` as fits into ``width`` columns, with an ellipsis where it was cut."""
    return text if cells(text) <= width else _fitting(text, width - 1).rstrip() + "…"


def _fitting(text: str, width: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += cells(char)
        if used > width:
            return text[:index]
    return text


def cells(text: str) -> int:
    """Return how many columns ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def _draw(block: _Block, share: int, width: int, tone: str | None) -> list[str]:
    """Lay a block out on ``share`` lines; ``tone`` colours its badge, ``None`` means no colour."""
    drawn = []
    for index, line in enumerate(_cut(block.items, share, width - block.indent)):
        label = f"{'' if index else block.label:<{block.indent}}"
        if tone is None:
            drawn.append(f"{label}{line}".rstrip())
            continue
        badge = line[: len(block.badge)] if not index else ""
        rest = line[len(badge) :]
        drawn.append(_paint(label, _DIM) + _paint(badge, tone) + _paint(rest, block.style))
    return drawn


def _paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if text.strip() and style else text

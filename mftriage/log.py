"""The kernel log as records, whichever way it came: the printk ring of a dump, or a text file.

A text file has one of many prefixes in front of each message: ``dmesg`` (plain, ``-T``, ``-H``,
``-d``, ``-x``, ``-r``, ``--time-format iso``), the serial console with or without caller ids
(CONFIG_PRINTK_CALLER), /dev/kmsg and extended netconsole, syslog, rsyslog and journald, ``grep`` and
quoted mail.  What people paste is wrapped, glued together, or has its minus signs made pretty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from mftriage.pattern import Pattern
from mftriage.text import clean

_MAX_LINE = 4096
_LEVELS = tuple("01234567")
_MAX_WRAPS = 4  # pieces that one message is put together from

# What stands in front of a message in a saved log: <N> syslog level, [time], [caller].
_PREFIX = Pattern(
    r"(?:<(?P<level>[0-9]{1,4})>)?\[\s*(?P<time>[0-9]{1,12}\.[0-9]{1,9})\]\s?(?:\[\s*[TC]\d+\]\s?)?(?P<text>.*)$"
)
# Colours and cursor movements of a terminal, as they are or as rsyslog writes them.
_ESCAPES = Pattern(
    r"(?:\x1b|#033)(?:\[[0-9;?]{0,40}[ -/]{0,4}[@-~]|[()][0-9A-Za-z]|[=>78cDEHMNOZ])"
)


class LogRecord(NamedTuple):
    """One printk record.

    ``time`` is seconds since boot, ``level`` the syslog level (0 to 7, ``None`` if unknown);
    ``text`` is one line, cleaned of control characters.  ``clock`` counts seconds on the wall
    where the log has no better time; its time zone is not known, so only differences count.
    """

    time: float | None
    level: int | None
    text: str
    clock: float | None = None


def lines_of(text: str, time: float | None, level: int | None) -> list[LogRecord]:
    """A record for every line of a printk message."""
    return [LogRecord(time, level, clean(line, _MAX_LINE)) for line in text.split("\n")]


class TextLog:
    """A reader of saved logs.

    ``host`` is the name that syslog put in front, ``messages`` the number of lines that can only
    be a kernel's: those with a printk time, or a message that nothing else writes.
    """

    def __init__(self) -> None:
        self.host: str | None = None
        self.messages = 0
        self._time: float | None = None
        self._clock: float | None = None

    def read(self, lines: Iterable[str]) -> Iterator[LogRecord]:
        """The records of the log, one message each."""
        held: _Line | LogRecord | None = None
        before = ""  # the line that is held
        prefix = _PREFIX.compiled.match
        for raw in lines:
            if "\x1b" in raw or "#033[" in raw:
                raw = _ESCAPES.compiled.sub("", raw)
            raw = raw.rstrip("\r\n")
            if not raw:
                continue
            match = prefix(raw)
            if match is not None and " kernel: " not in raw:
                if held is not None:
                    yield from (held,) if isinstance(held, LogRecord) else self._records(held)
                    held = None
                self.messages += 1
                stamp, text = match["time"], match["text"]
                time = self._time = float(stamp)
                level = int(match["level"]) & 7 if match["level"] else None
                # Most lines are whole as they stand; one of a record may go on in the next line.
                if not _may_matter(text):
                    yield LogRecord(time, level, clean(text, _MAX_LINE))
                elif text.isascii() and len(text) <= _MAX_LINE and not _may_be_glued(text):
                    held, before = LogRecord(time, level, clean(text)), raw
                else:
                    held = _Line(raw, time, level, None, text, True)
                continue
            line = self._line(raw, match)
            if line is None:
                continue
            if held is not None:
                if isinstance(held, LogRecord):
                    held = _Line(before, held.time, held.level, None, held.text, True)
                if line.prefixed or held.pieces >= _MAX_WRAPS or not _goes_on(held, line):
                    yield from self._records(held)
                else:
                    held = _joined(held, line)
                    continue
            if not _may_matter(line.text):
                held = None
                yield LogRecord(line.time, line.level, clean(line.text, _MAX_LINE), line.clock)
            elif line.prefixed:
                held = line
            else:
                held = None
                yield from self._records(line)
        if held is not None:
            yield from (held,) if isinstance(held, LogRecord) else self._records(held)

    def _records(self, line: _Line) -> Iterable[LogRecord]:
        if line.prefixed and line.text.isascii() and not _may_be_glued(line.text):
            return (LogRecord(line.time, line.level, clean(line.text, _MAX_LINE), line.clock),)
        return self._pieces(line)

    def _pieces(self, line: _Line) -> Iterator[LogRecord]:
        text = line.text[: 4 * _MAX_LINE]
        if not text.isascii():
            text = text.translate(_PRETTY)
        for time, piece in _unglued(text) if _may_be_glued(text) else ((None, text),):
            if time is not None:
                self._time = time
            if not line.prefixed and _STARTS.match(piece):
                self.messages += 1
            yield LogRecord(
                line.time if time is None else time,
                line.level,
                clean(piece, _MAX_LINE),
                line.clock,
            )

    def _line(self, raw: str, match: re.Match[str] | None) -> _Line | None:
        if match is None:
            return self._strange(raw)
        self.messages += 1
        time = self._time = float(match["time"])
        level = match["level"]
        text = match["text"]
        if " kernel: " in text[:80]:  # journalctl -o short-monotonic
            host, _, rest = text.partition(" kernel: ")
            if " " not in host:
                self.host = self.host or host
                text = rest
        return _Line(raw, time, int(level) & 7 if level else None, None, text, True)

    def _journal(self, raw: str) -> _Line | None:
        """A line of ``journalctl -o json``; ``None`` for another program's."""
        import json  # a log in this form is rare

        try:
            entry = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        if entry.get("_TRANSPORT") != "kernel" and entry.get("SYSLOG_IDENTIFIER") != "kernel":
            return None
        text = entry.get("MESSAGE")
        if isinstance(text, list):  # bytes that are no UTF-8
            known = [n for n in text if isinstance(n, int) and 0 <= n < 256]
            text = bytes(known).decode("utf-8", "backslashreplace")
        if not isinstance(text, str):
            return None
        self.messages += 1
        host, stamp = entry.get("_HOSTNAME"), str(entry.get("_SOURCE_MONOTONIC_TIMESTAMP"))
        if isinstance(host, str):
            self.host = self.host or clean(host, 255)
        if stamp.isascii() and stamp.isdigit():
            self._time = int(stamp[:16]) / 1e6
        level = str(entry.get("PRIORITY"))
        known_level = int(level) if level in _LEVELS else None
        return _Line(raw, self._time, known_level, None, text.replace("\n", " "), True)

    def _strange(self, raw: str) -> _Line | None:
        """A line with another prefix than the console's, or none; ``None`` for another program's."""
        if raw.startswith('{"') and '"MESSAGE"' in raw:
            return self._journal(raw)
        text, level, clock, prefixed = raw, None, None, False
        for _ in range(4):  # layers
            if match := _PREFIX.match(text):
                self.messages += 1
                self._time = float(match["time"])
                level = int(match["level"]) & 7 if match["level"] else level
                return _Line(raw, self._time, level, clock, match["text"], True)
            layer = _OUTER.match(text)
            if layer is None:
                break
            kind = layer.lastgroup
            rest = text[layer.end() :]
            if kind == "quote" or kind == "grep":
                pass
            elif kind == "level":
                level = int(text[1 : text.index(">")]) & 7
                prefixed = True
            elif kind == "kmsg":
                priority, _, micros, *_ = text.split(",")
                level = int(priority) & 7
                self.messages += 1
                self._time = int(micros[:16]) / 1e6
                return _Line(raw, self._time, level, None, rest.removeprefix(";"), True)
            elif kind == "ctime":
                clock = _clock(layer[0])
                self.messages += 1
                prefixed = True
            elif kind == "delta":
                step = re.search(r"\+([0-9.]+)", layer[0])
                if step is not None and self._clock is not None:
                    clock = self._clock + float(step[1])
                elif step is None:
                    clock = _clock(layer[0])
                self.messages += 1
                prefixed = True
            elif kind == "both":
                self.messages += 1
                self._time = float(layer[0].strip("[ ").split()[0].rstrip("<"))
                return _Line(raw, self._time, level, clock, rest, True)
            elif kind == "kernel":
                self.messages += 1
                prefixed = True
                rest = _no_brackets(rest)
            elif kind == "date":
                clock = _clock(layer[0])
                # a comma in it is dmesg's --time-format iso, which names no program
                found = self._after_date(rest, "," in layer[0])
                if found is None:
                    return None
                rest = found
                prefixed = True
            text = rest
        if not prefixed and _PART.match(text):
            return None
        if clock is not None:
            self._clock = clock
        time = self._time if clock is None else None
        return _Line(raw, time, level, clock, text, prefixed)

    def _after_date(self, rest: str, bare: bool) -> str | None:
        """What follows a syslog date: the kernel's message, or ``None`` for another program's."""
        if rest.startswith("[") or _STARTS.match(rest):
            return rest
        if match := _HOST_KERNEL.match(rest):
            self.messages += 1
            if match["host"]:
                self.host = self.host or clean(match["host"], 255)
            return _no_brackets(rest[match.end() :])
        if match := _HOST_TIME.match(rest):
            self.host = self.host or clean(match["host"], 255)
            return rest[match.end() :]
        return rest if bare or not _OTHER_PROGRAM.match(rest) else None


class _Line(NamedTuple):
    """A line with its prefix taken off; ``prefixed`` is false where it had none."""

    raw: str
    time: float | None
    level: int | None
    clock: float | None
    text: str
    prefixed: bool
    pieces: int = 1


_HOST_KERNEL = Pattern(
    r"(?:(?P<host>\S{1,255})\s+)?(?:[a-z]+\.[a-z]+ )?kernel(?:\[\d+\])?(?::| \S+ \S+ \S+)\s?"
)
_HOST_TIME = Pattern(r"(?P<host>\S{1,255})\s+(?=\[\s*[0-9]+\.[0-9]+\])")
_OTHER_PROGRAM = Pattern(r"\S{1,255}\s+[\w./@()-]{1,64}(?:\[\d+\])?:")
_PART = Pattern(r"(?:Panic|Oops|Emergency|Shutdown)#\d+ Part\d+$")  # pstore
_PRETTY = {0x2010: "-", 0x2011: "-", 0x2012: "-", 0x2013: "-", 0x2014: "-", 0x2212: "-"} | {
    0xA0: " ",
    0x2007: " ",
    0x202F: " ",
    0x2026: "...",
}
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
# A date of syslog, rsyslog or journald.
_DATE = r"(?:[A-Z][a-z]{2}\s+)?(?:[A-Z][a-z]{2}\s{1,2}\d{1,2}(?: \d{4})? \d\d:\d\d:\d\d(?: \d{4})?(?:[.,]\d{1,9})?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z| ?[+-]\d\d:?\d\d)?)"
# One layer in front of a message, by the name of its kind.
_OUTER = Pattern(
    r"(?P<quote>(?:> ?){1,9}|[\t ]+(?=[\[<]|kernel:))"
    r"|(?P<grep>(?:[\w./-]{1,100}[:-]){1,2}(?=\[\s*[A-Z0-9]|<\d|[A-Z][a-z]{2} +\d|\d{4}-\d\d-|kernel: ))"
    r"|(?P<kmsg>\d{1,4},\d{1,20},\d{1,16},[-+c](?:,[^;]{0,99})?(?=;))"
    r"|(?P<ctime>\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d \d{4}(?: <\s*[\d.]+>)?\] ?)"
    r"|(?P<delta>\[\s*(?:\+\s*[0-9]{1,9}\.[0-9]{1,9}|[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d(?::\d\d)?)\s*\] ?)"
    r"|(?P<both>\[\s*[0-9]{1,12}\.[0-9]{1,9}\s+<\s*[0-9.]{1,20}>\] ?)"
    r"|(?P<date>(?:<\d{1,3}>(?:1 )?)?(?:\[" + _DATE + r"\]|" + _DATE + r"|\d{9,11}\.\d{6}) +)"
    r"|(?P<kernel>kernel: ?|(?:kern|user|daemon|syslog)\s*:(?:emerg|alert|crit|err|warn|notice|info|debug)\s*: )"
    r"|(?P<level><[0-9]{1,4}>)"
)


def _no_brackets(text: str) -> str:
    """Drop the colon that some daemons leave in front of the time ("kernel: :[ 12.3]")."""
    return text[1:] if text.startswith((":[", " [")) else text


# The beginnings of messages that records are made of; nothing but a kernel writes these.
_STARTS = Pattern(
    r"(?:mce: (?=\[Hardware Error\]|Uncorrected |Memory error not|Kernel accessed|CPU)|(?:\{\d{1,10}\})?\[Hardware Error\]:?\s"
    r"|\{\d{1,10}\}Hardware error detected on|Memory [Ff]ailure: 0x|MCE 0x[0-9a-f]+: |EDAC (?:\w{1,16} )?MC\d+: |RAS: Soft-offlining|CMCI storm |"
    r"[Ss]oft[ _][Oo]ffline: |Soft offlining pfn |Injecting memory failure |Kernel panic - not syncing: |Internal error: [a-zA-Z ]+: [0-9a-f]|BERT: |"
    r"BUG: unable to handle |Unable to handle kernel |Linux version \d|GHES: )"
)

# A glued message starts behind another one: at its own time, or where a known beginning stands.
_GLUE = Pattern(
    r"(?<=[^ \[])\s*(?:kernel:\s*)?(?:\[\s*([0-9]{1,12}\.[0-9]{6})\]\s?(?:\[\s*[TC]\d+\]\s?)?|(?<!\w)(?=(?:EDAC \w{1,16} MC\d+: |mce: \[Hardware Error\]: |\{\d{1,10}\}\[Hardware Error\]|Memory failure: 0x)))"
)


# Behind these stands what a device, a user or a file says of itself: whatever it looks like, it is quoted.
_QUOTES = Pattern(
    r"\b(?:Product|Manufacturer|SerialNumber|[Cc]ommand line|SSID|Vendor|Model|[Nn]ame|[Ll]abel|audit)\s?[:=(]"
)


def _may_be_glued(text: str) -> bool:
    """A quick look at whether a second message may stand in a line."""
    return (
        (text.count("[") > 1 and ("." in text or text.find("{", 1) > 0))
        or text.find("EDAC ", 1) > 0
        or text.find("mce: ", 1) > 0
        or text.find("Memory failure: 0x", 1) > 0
    )


def _unglued(text: str) -> Iterator[tuple[float | None, str]]:
    """Each message of a line, with its own time if it has one."""
    at, time = 0, None
    quote = _QUOTES.search(text)
    quoted_from = quote.start() if quote else len(text)
    for match in _GLUE.finditer(text):
        if match.start() > quoted_from:
            break
        if match.start() == 0 or "not syncing:" in text[match.start() - 13 : match.start()]:
            continue
        # a message that a record of its own follows; times in the middle of other text stay
        if match[1] is not None and not text[match.end() :].strip():
            continue
        yield time, text[at : match.start()]
        time = float(match[1]) if match[1] else None
        at = match.end()
    yield time, text[at:]


def _may_matter(text: str) -> bool:
    """A quick look at whether a message may be part of a record."""
    return "rror" in text or "ailure" in text or "EDAC" in text or "MCE" in text or "panic" in text


# What a wrapped message never goes on with: a trace, registers, a comment of whoever pasted it.
_NO_MORE = Pattern(
    r"\s*(?:[\w.$]+\+0x[0-9a-f]|\[<|(?:[Rr][A-Za-z0-9]{1,2}|x\d+|pc|lr|sp|pstate)\s*: |Call [Tt]race|</?[A-Z]|\.\.|--|[#*=|~]|Code: |Modules linked)"
)


def _goes_on(held: _Line, line: _Line) -> bool:
    """Whether a line without a prefix is the rest of the wrapped message before it."""
    if not (line.text[:1].isspace() or len(_last(held)) >= 60):
        return False
    return not (_STARTS.match(line.text.strip()) or _NO_MORE.match(line.text))


def _joined(held: _Line, line: _Line) -> _Line:
    # A terminal cuts at its last column, wherever in a word that is; mail cuts at blanks.
    cut = len(_last(held)) in (80, 100, 114, 120, 132) and not line.text[:1].isspace()
    text = held.text + ("" if cut else " ") + line.text.strip()
    return held._replace(raw=held.raw + "\n" + line.raw, text=text, pieces=held.pieces + 1)


def _last(line: _Line) -> str:
    return line.raw.rpartition("\n")[2]


_ISO = Pattern(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)([.,]\d+)?")
_CTIME = Pattern(r"([A-Z][a-z]{2})\s+(\d{1,2}) (?:(\d{4}) )?(\d\d):(\d\d)(?::(\d\d))?(?: (\d{4}))?")
_EPOCH = Pattern(r"(\d{9,11}\.\d{6})")


@lru_cache(maxsize=64)
def _clock(text: str) -> float | None:
    """Seconds on the wall out of a date in any of the forms of syslog and dmesg."""
    if match := _ISO.search(text):
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        part = float(match[7].replace(",", ".")) if match[7] else 0.0
    elif match := _CTIME.search(text):
        if match[1] not in _MONTHS:
            return None
        month, day = _MONTHS.index(match[1]) + 1, int(match[2])
        year = int(match[3] or match[7] or 2000)
        hour, minute, second = int(match[4]), int(match[5]), int(match[6] or 0)
        part = 0.0
    elif match := _EPOCH.search(text):
        return float(match[1])
    else:
        return None
    # days from the civil calendar; a date that does not exist is as good as the one after it
    year -= month <= 2
    days = 365 * year + year // 4 - year // 100 + year // 400
    days += (153 * ((month + 9) % 12) + 2) // 5 + day - 719469
    return days * 86400.0 + hour * 3600 + minute * 60 + second + part


_NEW_BOOT = ("Linux version ", "Booting Linux on physical CPU ")
_SHORT = 20  # records at the start of a boot that may hold both of the above


def split_boots_lazily(log: Iterable[LogRecord]) -> Iterator[Iterator[LogRecord]]:
    """The boots of a log, oldest first, one after the other: each has to be read to its end.

    A boot begins with the kernel's version, or where time goes back: to the first minute, or
    behind a panic.
    """
    source = iter(log)
    ahead = next(source, None)
    if ahead is None:
        yield iter(())
    while ahead is not None:
        first, ahead = ahead, None

        def boot(first: LogRecord = first) -> Iterator[LogRecord]:
            nonlocal ahead
            latest, seen = first.time or 0.0, 0
            panicked = "Kernel panic - not syncing" in first.text
            yield first
            for record in source:
                time, _, text, _ = record
                back = time is not None and time < latest - 1.0
                if (back or text.startswith(_NEW_BOOT)) and _boots(record, latest, panicked, seen):
                    ahead = record
                    return
                if time is not None and time > latest:
                    latest = time
                panicked = panicked or "Kernel panic - not syncing" in text
                seen += 1  # noqa: SIM113 -- of this boot, not of the source
                yield record

        yield boot()


def _boots(record: LogRecord, latest: float, panicked: bool, seen: int) -> bool:
    """Whether a record is the first of another boot than that of the ``seen`` ones before it."""
    if record.text.startswith(_NEW_BOOT):
        return panicked or seen > _SHORT or (record.time or 0.0) < latest - 1.0
    if record.time is None or record.time >= latest - 1.0:
        return False
    return panicked or (record.time < 60.0 and record.time < latest - 30.0)


def split_boots(log: Iterable[LogRecord]) -> list[list[LogRecord]]:
    """The boots of a log, oldest first."""
    return [list(boot) for boot in split_boots_lazily(log)]

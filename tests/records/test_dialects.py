"""One log as every tool writes it: the same records come out, whatever stands in front of the messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mftriage.log import TextLog
from mftriage.model import HardwareError, MemoryFailure
from mftriage.records import log_records
from mftriage.records.gaps import gaps
from mftriage.records.memory_failure import memory_failures
from tests.craft import parse_text

DATA = Path(__file__).parent / "data"
START = datetime(2024, 5, 1, 1, 2, 3)
Style = Callable[[float, str], str]


def lines() -> list[tuple[float, str]]:
    """Messages of many formats, a tenth of a millisecond apart."""
    texts = []
    for name in (
        "ghes-memory",
        "mce",
        "edac-adxl",
        "mce-amd",
        "edac-apei",
        "edac-old",
        "cec",
        "aer",
    ):
        log = (DATA / f"{name}.txt").read_text().partition("\n---\n")[2]
        texts += [record.text for record in parse_text(log.splitlines())]
    texts.append(
        "Memory failure: 0x13b2: Sending SIGBUS to my proc:105 due to hardware memory corruption"
    )
    texts.append("Memory failure: 0x13b2: recovery action for dirty LRU page: Recovered")
    return [(100 + n / 10_000, text) for n, text in enumerate(texts)]


def wall(t: float, form: str) -> str:
    return (START + timedelta(seconds=t)).strftime(form)


def colored(t: float, text: str) -> str:
    head, colon, rest = text.partition(": ")
    return f"\x1b[32m[{t:12.6f}] \x1b[0m\x1b[33m{head}{colon}\x1b[0m{rest}"


def verbose(t: float, text: str) -> str:
    stamp = wall(t, "%a %Y-%m-%d %H:%M:%S.%f CEST [s=1;i=2]")
    return f"{stamp}\n    PRIORITY=4\n    _TRANSPORT=kernel\n    SYSLOG_IDENTIFIER=kernel\n    MESSAGE={text}"


def journal(t: float, text: str) -> str:
    entry = {"MESSAGE": text, "_TRANSPORT": "kernel", "PRIORITY": "4", "_HOSTNAME": "host7"}
    return json.dumps(entry | {"_SOURCE_MONOTONIC_TIMESTAMP": str(round(t * 1e6))})


STYLES: dict[str, Style] = {
    "dmesg": lambda t, m: f"[{t:12.6f}] {m}",
    "dmesg -r": lambda t, m: f"<4>[{t:12.6f}] {m}",
    "dmesg -x": lambda t, m: f"kern  :warn  : [{t:12.6f}] {m}",
    "dmesg -T": lambda t, m: f"[{wall(t, '%a %b %e %H:%M:%S %Y')}] {m}",
    "dmesg --color": colored,
    "dmesg --time-format iso": lambda t, m: f"{wall(t, '%Y-%m-%dT%H:%M:%S,%f+02:00')} {m}",
    "/dev/kmsg": lambda t, m: f"4,123,{round(t * 1e6)},-;{m}",
    "caller ids": lambda t, m: f"[{t:12.6f}][  T123] {m}",
    "caller ids apart": lambda t, m: f"<4>[{t:12.6f}] [    C3] {m}",
    "Windows": lambda t, m: f"[{t:12.6f}] {m}\r",
    "serial, carriage return first": lambda t, m: f"\r[{t:12.6f}] {m}",
    "serial, colours": lambda t, m: f"\x1b[0m[{t:12.6f}] \x1b[1;31m{m}\x1b[0m",
    "serial, behind a prompt": lambda t, m: f"host7 login: [{t:12.6f}] {m}",
    "console server": lambda t, m: f"[{wall(t, '%Y-%m-%d %H:%M:%S')}] [{t:12.6f}] {m}",
    "console server, UTC": lambda t, m: f"{wall(t, '%Y-%m-%dT%H:%M:%S.123Z')} [{t:12.6f}] {m}",
    "netconsole by syslog": lambda t, m: f"{wall(t, '%b %e %H:%M:%S')} 10.0.0.5 [{t:12.6f}] {m}",
    "syslog": lambda t, m: f"{wall(t, '%b %e %H:%M:%S')} host7 kernel: [{t:12.6f}] {m}",
    "syslog, colours": lambda t, m: f"{wall(t, '%b %e %H:%M:%S')} host7 kernel: #033[33m{m}#033[0m",
    "syslog and dmesg -T": lambda t, m: f"{wall(t, '%b %e %H:%M:%S')} host7 kernel: [{wall(t, '%a %b %e %H:%M:%S %Y')}] {m}",
    "syslog with level": lambda t, m: f"{wall(t, '%b %e %H:%M:%S')} host7 kernel: <4>[{t:12.6f}] {m}",
    "busybox": lambda t, m: f"{wall(t, '%b %e %H:%M:%S')} host7 kern.warn kernel: [{t:12.6f}] {m}",
    "RFC 5424": lambda t, m: f"<4>1 {wall(t, '%Y-%m-%dT%H:%M:%S.%fZ')} host7 kernel - - -  {m}",
    "journalctl": lambda t, m: f"{wall(t, '%b %d %H:%M:%S')} host7 kernel: {m}",
    "journalctl -o short-iso": lambda t, m: f"{wall(t, '%Y-%m-%dT%H:%M:%S+0200')} host7 kernel: {m}",
    "journalctl -o short-full": lambda t, m: f"{wall(t, '%a %Y-%m-%d %H:%M:%S CEST')} host7 kernel: {m}",
    "journalctl -o short-unix": lambda t, m: f"1714518{t:.6f} host7 kernel: {m}",
    "journalctl -o short-monotonic": lambda t, m: f"[{t:12.6f}] host7 kernel: {m}",
    "journalctl -o short-delta": lambda t, m: f"[{t:12.6f} <    0.000100 >] host7 kernel: {m}",
    "journalctl -o verbose": verbose,
    "journalctl -o json": journal,
    "journalctl -o cat": lambda t, m: m,
    "indented": lambda t, m: f"    {m}",
    "quoted": lambda t, m: f"> [{t:12.6f}] {m}",
    "grep -n": lambda t, m: f"1234:[{t:12.6f}] {m}",
    "grep over files": lambda t, m: f"/var/log/messages-20240501:{wall(t, '%b %e %H:%M:%S')} host7 kernel: {m}",
}  # fmt: skip


def read(text: str) -> tuple[list[HardwareError], tuple[MemoryFailure, ...]]:
    log = list(TextLog().read(text.split("\n")))
    found, failed = log_records(log)
    assert not failed
    failures = memory_failures(log, None)
    return (
        [replace(record, time=None, raw=()) for record in found],
        tuple(replace(event, time=None) for event in failures),
    )


@pytest.mark.parametrize("style", STYLES)
def test_style(style: str) -> None:
    told = lines()
    wanted = read("\n".join(STYLES["dmesg"](*line) for line in told))
    assert len(wanted[0]) > 15 and len(wanted[1]) == 1
    assert read("\n".join(STYLES[style](*line) for line in told)) == wanted


def test_a_journal_of_json_has_times_and_its_host() -> None:
    log = TextLog()
    other = json.dumps({"MESSAGE": "mce: [Hardware Error]: no", "SYSLOG_IDENTIFIER": "app"})
    raw = json.dumps({"MESSAGE": list(b"EDAC \xff"), "_TRANSPORT": "kernel", "PRIORITY": "9"})
    text = [other, raw, '{"MESSAGE"', journal(12.5, "Memory failure: 0x1: x")]
    records = list(log.read(text))
    assert [(r.time, r.level, r.text) for r in records] == [
        (None, None, "EDAC \\xff"),
        (12.5, 4, "Memory failure: 0x1: x"),
    ]
    assert log.host == "host7" and log.messages == 2


def test_several_messages_in_a_line() -> None:
    """As they come out of a spreadsheet, or a ticket that has lost its line ends."""
    number = "{37}[Hardware Error]: "
    head = (
        "Hardware error from APEI Generic Hardware Error Source: 162",
        "event severity: corrected",
    )
    body = (
        " Error 0, type: corrected",
        "  section_type: memory error",
        "  error_type: 2, single-bit ECC",
    )
    text = " ".join(f"kernel: {number}{line}" for line in (*head, *body))
    (record,), _ = read(text)
    assert (record.error_type, record.severity, record.is_memory) == (
        "single-bit ECC",
        "corrected",
        True,
    )


def test_what_a_log_says_it_lacks() -> None:
    log = parse_text(
        [
            "[   14.0] mce: CMCI storm detected: switching to poll mode",
            "[   45.0] mce: CPU3 BANK7 CMCI storm detected",
            "[   46.0] mce: CPU4 BANK7 CMCI inherited storm",
            "[   47.0] mce: [Hardware Error]: Machine check events logged",
            "[   48.0] ghes_print_estatus: 12 callbacks suppressed",
            "[   49.0] EDAC skx MC0: 3 callbacks suppressed",
            "[   50.0] audit: 99 callbacks suppressed",
        ]
    )
    rows = {row.what: row.why for row in gaps(log, (), ())}
    assert "(3 times)" in rows["corrected errors that were not recorded one by one"]
    assert "(once)" in rows["machine-check records that the kernel did not print"]
    assert "suppressed 15 messages" in rows["records that were not printed"]

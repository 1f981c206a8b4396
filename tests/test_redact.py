"""What identifies is gone from every format, the proof is still there, and tokens are stable."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mftriage.codec import from_json, to_json
from mftriage.errors import UsageError
from mftriage.fleet.row import row_of
from mftriage.model import (
    Detail,
    Dimm,
    FirmwareRecord,
    HardwareError,
    MceRegisters,
    MemoryFailure,
    Owner,
    PageInfo,
    PageRequest,
    Panic,
    Task,
    Triage,
)
from mftriage.redact import Redactor, redacting
from mftriage.render import FORMATS, render
from tests.craft import ROOT, mftriage
from tests.render.samples import X86_SYSCTL_PANIC
from tests.render.strategies import QUICK, saturate, triages

KEY = b"k" * 32
REPORTS = sorted((ROOT / "reports").glob("*.json"))

LETTERS = st.text("ghjkmnpqrstuvwxyz", min_size=5, max_size=12)
HOST = st.builds(
    "{}{}".format, LETTERS, st.sampled_from(["", "-r14-u07", "7.fra2.example", ".lan"])
)
SERIAL = st.text("0123456789ABCDEFXYZ", min_size=8, max_size=14).filter(lambda s: s.strip("0"))
COMM = st.one_of(LETTERS, st.sampled_from(["my sql d", "python3.13", "(sd-pam)", "a+b", "x[y]"]))
IP4 = st.ip_addresses(v=4).map(str).filter(lambda ip: ip != "0.0.0.0")
IP6 = st.ip_addresses(v=6).map(str).filter(lambda ip: ip != "::" and ":0:" not in ip)
# of one that is all zeros the digits are in any number
MAC = st.lists(st.integers(0, 255), min_size=6, max_size=6).map(
    lambda b: ":".join(f"{x:02x}" for x in b)
)
PATH = st.builds("/home/{}/{}/vmcore".format, LETTERS, LETTERS)
ADDRESS = st.integers(0x7E00_0000_0000, 0x7FFF_FFFF_FFFF).map(hex)


def named(
    host: str,
    serial: str,
    comm: str,
    path: str,
    address: str,
    said: str,
    base: Triage = X86_SYSCTL_PANIC,
) -> Triage:
    """A triage with these names in its fields, and ``said`` in every other string."""
    full = saturate(base, said)
    record = HardwareError(
        source="mce", medium="log", physical_address="0x7f0000000", raw=(said,),
        mce=MceRegisters(ppin=f"0x{serial}", ip=address, code_segment="0x33"),
        firmware=FirmwareRecord(fru_id=serial, fru_text=said),
        details=(Detail(name="serial number", value=serial), Detail(name="x", value=said)),
    )  # fmt: skip
    failure = MemoryFailure(time=1.0, pfn="0x1741", killed=(Task(comm=comm, pid=7),), notes=(said,))
    return replace(
        full,
        tool=base.tool,
        dump=replace(base.dump, hostname=host, path=path),
        panic=Panic(message=said, task=Task(comm=comm, pid=1)),
        memory_failures=(failure,),
        page=PageInfo(
            pfn="0x1741", physical_address="0x17413c0", owner=Owner(kind="page-cache", file=path, detail=said)
        ),
        hardware_errors=(record,),
        page_requests=(PageRequest(time=1.0, kind="injection", pfn="0x1741", virtual_address=address),),
        dimm=Dimm(serial_number=serial, locator="DIMM A1", manufacturer="Samsung", how=said),
    )  # fmt: skip


@QUICK
@given(HOST, SERIAL, COMM, PATH, ADDRESS, IP4, IP6, MAC, st.randoms(use_true_random=False))
def test_nothing_that_identifies_survives(
    host: str,
    serial: str,
    comm: str,
    path: str,
    address: str,
    ip4: str,
    ip6: str,
    mac: str,
    order: object,
) -> None:
    short = host.partition(".")[0]
    said = [
        f"{host} {short}: Killing {comm}:7 due to hardware memory corruption", f"'{path}'", f"<{address}>",
        f"Comm: {comm} Not tainted", f"eth0 {mac}, {ip4}:22", f"[{ip6}]", f"serial number: {serial}",
        f"/var/crash/{short}/core", f"{short}.other.example", f"x-{serial}.", f"(at {address.upper()[2:].lower()})",
        f"s3://bucket/{host}/1", host.upper(),
    ]  # fmt: skip
    order.shuffle(said)  # type: ignore[attr-defined]
    triage = named(host, serial, comm, path, address, " ".join(said))
    redactor = Redactor(KEY)
    masked = redactor.triage(triage)
    gone = [
        host,
        short,
        serial,
        path,
        address,
        address[2:],
        ip4,
        ip6,
        mac,
        "bucket",
        "other.example",
    ]
    gone += [comm, *path.split("/")[2:4]]
    tokens = sorted(redactor.names, key=len, reverse=True)
    for fmt in FORMATS:
        text = render(masked, fmt).casefold()
        for token in tokens:
            text = text.replace(token, "")
        for name in gone:
            assert name.casefold() not in text, (fmt, name)
    assert from_json(to_json(masked)) == masked
    # the proof stays
    assert masked.page and (masked.page.pfn, masked.page.physical_address) == (
        "0x1741",
        "0x17413c0",
    )
    assert masked.hardware_errors[0].physical_address == "0x7f0000000"
    assert masked.dimm and masked.dimm.locator == "DIMM A1"
    assert masked.verdict.kind == triage.verdict.kind
    # and so do groups
    assert masked.dump.hostname == redactor.token("host", host.upper())
    assert Redactor(KEY).triage(triage) == masked == redactor.triage(masked)
    assert Redactor(b"another").triage(triage) != masked
    assert redactor.names[str(masked.dump.hostname)].casefold() == host.casefold()


@QUICK
@given(triages())
def test_any_triage_stays_one(triage: Triage) -> None:
    redactor = Redactor(KEY)
    masked = redactor.triage(triage)
    again = from_json(to_json(masked))
    assert to_json(again) == to_json(masked)
    assert (masked.verdict.kind, masked.num_poisoned_pages) == (
        triage.verdict.kind,
        triage.num_poisoned_pages,
    )
    assert len(masked.hardware_errors) == len(triage.hardware_errors)
    row_of(masked)


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.stem)
def test_of_a_real_report_little_is_masked(report: Path) -> None:
    triage = from_json(report.read_text(encoding="utf-8"))
    redactor = Redactor(KEY)
    masked = redactor.triage(triage)
    kinds = {token.partition("-")[0] for token in redactor.names}
    assert kinds <= {"path", "task", "address", "serial"}
    text = to_json(masked)
    for token, name in redactor.names.items():
        text = text.replace(token, name)
    assert text == to_json(triage)
    before, after = row_of(triage), row_of(masked)
    assert {k for k in before if before[k] != after[k]} <= {
        *("summary", "panic_message", "dimm", "dimm_serial_number")
    }


@pytest.mark.parametrize(
    "kept",
    [
        "7.3.4+deb13-cloud-amd64", "mftriage 0.1.0", "ffff893701527600", "0xffff893701527600", "at 12:34:56.789",
        "0000:17:00.0", "BDF 17:00.0", "/sys/kernel/debug/ras/daemon_active", "kworker/0:1", "swapper/3",
        "Comm: kworker/u8:2 Not tainted", "status 0xbd000000000000c0", "DIMM_A1", "and/or", "N/A", "1/2/3",
        "see docs/guide.md", "vmlinux", "fs/dcache.c:2345", "core::fmt", "0x7f21c34", "a:b:c", "::",
        "2:delayed-crash:slab/dentry@__d_lookup", "Intel SDM vol. 3B, 17.3.2.2; AMD APM vol. 2, 9.3.2",
        "PCI Express Base Specification, 7.8.4.2",
    ],
)  # fmt: skip
def test_what_is_the_same_everywhere_stays(kept: str) -> None:
    assert Redactor(KEY).texts([kept], {}) == [kept]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("10.1.2.3", "ip-"), ("fe80::1", "ip-"), ("::ffff:10.1.2.3", "ip-"), ("2001:db8:0:0:1:2:3:4", "ip-"), ("00:1b:21:3c:4d:5e", "mac-"),
        ("00-1B-21-3C-4D-5E", "mac-"), ("/home/me/x", "path-"), ("gs://b/x", "path-"), ("0x7ffd1c2b3a40", "address-"),
        ("00007f21c3400000", "address-"), ("0xaaaae0001000", "address-"), ("55d0c0ffee00", "address-"),
    ],
)  # fmt: skip
def test_what_looks_like_it_is_masked(text: str, masked: str) -> None:
    [found] = Redactor(KEY).texts([text], {})
    assert found is not None and found.startswith(masked) and text not in found
    [inside] = Redactor(KEY).texts([f"(from {text}, again)"], {})
    assert inside == f"(from {found}, again)"


def test_a_host_that_is_a_token_of_somebody_else_is_masked() -> None:
    other = Redactor(b"other").token("host", "db1")
    assert Redactor(KEY).token("host", other) != other


def test_a_name_that_is_a_word_goes_from_texts_alone() -> None:
    triage = replace(X86_SYSCTL_PANIC, dump=replace(X86_SYSCTL_PANIC.dump, hostname="slab"))
    masked = Redactor(KEY).triage(triage)
    assert masked.page and masked.page.owner and masked.page.owner.kind == "slab"
    assert "slab page" not in to_json(masked)


def test_nobody_is_no_host() -> None:
    for name in ("localhost", "(none)", "", " ", "localhost.localdomain"):
        triage = replace(X86_SYSCTL_PANIC, dump=replace(X86_SYSCTL_PANIC.dump, hostname=name))
        assert Redactor(KEY).triage(triage).dump.hostname == name


# the map


def test_the_map_is_private_and_keeps_tokens_stable(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "map"
    with redacting(path) as redactor:
        token = redactor.token("host", "db1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text().splitlines()
    assert json.loads(lines[1]) == {"token": token, "name": "db1"}
    with redacting(path) as redactor:
        assert redactor.token("host", "db1") == token
        redactor.token("host", "db2")
    assert len(path.read_text().splitlines()) == 3
    assert path.read_text().splitlines()[:2] == lines


def test_many_at_once_have_one_key(tmp_path: Path) -> None:
    def one(number: int) -> str:
        with redacting(tmp_path / "map") as redactor:
            redactor.token("host", f"h{number}")
            return redactor.token("host", "db1")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(one, range(40)))) == 1
    with redacting(tmp_path / "map") as redactor:
        redactor.token("host", "h7")
    names = [json.loads(line)["name"] for line in (tmp_path / "map").read_text().splitlines()[1:]]
    assert {f"h{number}" for number in range(40)} <= set(names)


def test_a_map_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with redacting(tmp_path / "map"):
        pass
    (tmp_path / "map").chmod(0o644)
    with pytest.raises(UsageError, match="others may read"), redacting(tmp_path / "map"):
        pass


@pytest.mark.parametrize("content", ["{}\n", "hello\n", '{"key": "zz"}\n', '{"key": ""}\n', "[]\n"])
def test_what_is_no_map_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "map"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="no map"), redacting(path):
        pass


def test_a_line_that_was_cut_short_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "map"
    with redacting(path) as redactor:
        token = redactor.token("host", "db1")
    os.truncate(path, path.stat().st_size - 5)
    with redacting(path) as redactor:
        assert redactor.token("host", "db1") == token
    assert json.loads(path.read_text().splitlines()[-1]) == {"token": token, "name": "db1"}


# the command line


def test_convert_and_analyze_redact(tmp_path: Path) -> None:
    log = tmp_path / "console.txt"
    log.write_text(
        "[    0.000000] Linux version 7.3.4 (x@y) #1 SMP\n"
        "[    1.0] Memory failure: 0x1741: Killing mysecretd:77 due to hardware memory corruption\n"
        "[    1.1] Memory failure: 0x1741: recovery action for dirty LRU page: Recovered\n"
    )
    env = {"XDG_DATA_HOME": str(tmp_path / "data")}
    plain = mftriage("analyze", log, "-f", "json", env=env)
    assert "mysecretd" in plain.stdout and str(tmp_path) in plain.stdout
    done = mftriage("analyze", log, "-f", "json", "--redact", env=env)
    assert (
        done.returncode == 0 and "mysecretd" not in done.stdout and str(tmp_path) not in done.stdout
    )
    (tmp_path / "result.json").write_text(plain.stdout)
    for fmt in FORMATS:
        converted = mftriage("convert", tmp_path / "result.json", "-f", fmt, "--redact", env=env)
        assert converted.returncode == 0 and "mysecretd" not in converted.stdout
    again = mftriage("convert", tmp_path / "result.json", "-f", "json", "--redact", env=env)
    assert again.stdout == done.stdout
    other = mftriage(
        "convert", tmp_path / "result.json", "-f", "json", "--redact-map", tmp_path / "m"
    )
    assert (
        other.returncode == 0 and other.stdout != again.stdout and "mysecretd" not in other.stdout
    )
    assert "mysecretd" in (tmp_path / "m").read_text()


@pytest.mark.parametrize("option", [("--why",), ("--capsule", "c.elf.zst")])
def test_what_can_not_be_masked_is_refused(tmp_path: Path, option: tuple[str, ...]) -> None:
    dump = ROOT / "fixtures" / "x86_64-dentry" / "capsule.elf.zst"
    for redact in (("--redact",), ("--redact-map", "map")):
        done = mftriage("analyze", dump, *option, *redact, cwd=tmp_path)
        assert done.returncode == 2 and option[0] in done.stderr and done.stdout == ""
    assert not list(tmp_path.iterdir())

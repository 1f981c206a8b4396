"""rasdaemon's database: counted, tied to what failed, and whatever may be wrong with it."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mftriage.codec import from_json, to_json
from mftriage.errors import UsageError
from mftriage.model import Location
from mftriage.records.rasdaemon import Failed, PastRecords, past_records
from mftriage.render import FORMATS, render
from mftriage.triage import analyze
from tests.craft import ROOT

# ras-record.c: of 0.8, and of 0.6 where it differs
MC = (
    "CREATE TABLE mc_event (id INTEGER PRIMARY KEY, timestamp TEXT, err_count INTEGER, err_type TEXT, err_msg TEXT, label TEXT, "
    "mc INTEGER, top_layer INTEGER, middle_layer INTEGER, lower_layer INTEGER, address INTEGER, grain INTEGER, syndrome INTEGER, driver_detail TEXT)"
)
MCE = (
    "CREATE TABLE mce_record (id INTEGER PRIMARY KEY, timestamp TEXT, mcgcap INTEGER, mcgstatus INTEGER, status INTEGER, addr INTEGER, misc INTEGER, "
    "ip INTEGER, tsc INTEGER, walltime INTEGER, cpu INTEGER, cpuid INTEGER, apicid INTEGER, socketid INTEGER, cs INTEGER, bank INTEGER, cpuvendor INTEGER, "
    "bank_name TEXT, error_msg TEXT, mcgstatus_msg TEXT, mcistatus_msg TEXT, mcastatus_msg TEXT, user_action TEXT, mc_location TEXT)"
)
EXTLOG = "CREATE TABLE extlog_event (id INTEGER PRIMARY KEY, timestamp TEXT, etype INTEGER, error_count INTEGER, severity INTEGER, address INTEGER, fru_id BLOB, fru_text TEXT, cper_data BLOB)"
FAILURE = "CREATE TABLE memory_failure_event (id INTEGER PRIMARY KEY, timestamp TEXT, pfn TEXT, page_type TEXT, action_result TEXT)"
AER = "CREATE TABLE aer_event (id INTEGER PRIMARY KEY, timestamp TEXT, dev_name TEXT, err_type TEXT, err_msg TEXT)"
ARM = "CREATE TABLE arm_event (id INTEGER PRIMARY KEY, timestamp TEXT, error_count INTEGER, affinity INTEGER, mpidr INTEGER, running_state INTEGER, psci_state INTEGER)"
CXL = "CREATE TABLE cxl_dram_event (id INTEGER PRIMARY KEY, timestamp TEXT, memdev TEXT, host TEXT, serial INTEGER, log_type TEXT, dpa INTEGER)"
TABLES = (MC, MCE, EXTLOG, FAILURE, AER, ARM, CXL)
DETAIL = "err_code:0x0101:0x0090  SystemAddress:0x13b2040 ProcessorSocketId:0x0 Row:{row:#x} Column:0x158 Bank:0x1"
CRASH = datetime.fromisoformat("2026-11-22T18:00:00+00:00").timestamp()


NOTHING = Failed()


def database(
    path: Path, *rows: tuple[str, dict[str, object]], tables: Iterable[str] = TABLES
) -> Path:
    with closing(sqlite3.connect(path)) as db:
        for table in tables:
            db.execute(table)
        for table, values in rows:
            names = ", ".join(values)
            marks = ", ".join("?" * len(values))
            db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))
        db.commit()
    return path


def mc(when: str, label: str = "DIMM_A1", **more: object) -> tuple[str, dict[str, object]]:
    row: dict[str, object] = {
        **{"timestamp": when, "err_count": 1, "err_type": "Corrected", "label": label},
        **{"err_msg": "memory read error", "mc": 0, "top_layer": 0, "middle_layer": 1},
        **{"lower_layer": -1, "address": 0x13B2040, "grain": 5, "syndrome": 0},
        "driver_detail": DETAIL.format(row=0x10),
    }
    return "mc_event", row | more


def read(path: Path, failed: Failed = NOTHING, crash: float | None = CRASH) -> PastRecords:
    return past_records(path, crash, failed)


def test_corrected_errors_by_dimm(tmp_path: Path) -> None:
    path = database(
        tmp_path / "db",
        mc("2026-11-22 10:00:00 +0000", err_count=3),
        mc("2026-11-22 13:00:00 +0200", address=0x13B2080),  # 11:00 UTC
        mc("2026-11-22 12:00:00 +0000", address=0x13B20C0),
        mc("2026-11-22 09:00:00 +0000", label="DIMM_B1", driver_detail=""),
    )
    before = path.read_bytes()
    found = read(path)
    assert not found.not_checked and not found.others
    first, second = found.corrected
    assert (first.place, first.count, first.events, first.per_hour) == ("DIMM_A1", 5, 3, 2.5)
    assert (first.first_time, first.last_time) == ("2026-11-22T10:00:00Z", "2026-11-22T12:00:00Z")
    assert first.same == ("page", "row", "bank", "column") and first.source == "rasdaemon"
    assert (first.first, first.last, first.on_failed) == (None, None, ())
    assert first.scattered == ()
    assert (second.place, second.count, second.per_hour, second.same) == ("DIMM_B1", 1, None, ())
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["db"]


def test_what_came_after_the_crash_is_no_history(tmp_path: Path) -> None:
    path = database(
        tmp_path / "db",
        mc("2026-11-22 17:59:59 +0000"),
        mc("2026-11-22 18:30:00 +0000"),
        mc("2026-11-22 19:30:00 +0200"),  # half an hour before
    )
    assert [entry.count for entry in read(path).corrected] == [2]
    late = read(path, crash=None)
    assert [entry.count for entry in late.corrected] == [3]
    assert "which of rasdaemon's events came before" in late.not_checked[0].what


def test_what_the_errors_share_with_what_failed(tmp_path: Path) -> None:
    path = database(
        tmp_path / "db",
        mc("2026-11-22 10:00:00 +0000"),
        mc("2026-11-22 10:00:00 +0000", "DIMM_B1", address=0x7000),
        mc("2026-11-22 10:00:00 +0000", "DIMM_C1", address=-0x7FFF_FFFF_FFFF_F000),
    )
    failed = Failed(
        (0x13B2, 0x8000_0000_0000_1), 4096, frozenset({"dimm_a1"}), (Location(bank=1, row=0x11),)
    )
    shared = {entry.place: entry.on_failed for entry in read(path, failed).corrected}
    assert shared == {"DIMM_A1": ("dimm", "page", "bank"), "DIMM_B1": (), "DIMM_C1": ("page",)}


def test_worse_errors_are_history(tmp_path: Path) -> None:
    at = "2026-11-22 10:00:00 +0000"
    status = 0xBD80000000100134 - (1 << 64)  # uncorrected, data load; signed as SQLite has it
    path = database(
        tmp_path / "db",
        mc(at, err_type="Uncorrected", err_count=2),
        ("mce_record", {"timestamp": at, "status": status, "bank": 1, "socketid": 0, "cpuvendor": 0, "mcgstatus": 7}),
        ("extlog_event", {"timestamp": at, "severity": 1, "fru_text": "DIMM_C1", "address": 5}),
        ("memory_failure_event", {"timestamp": at, "pfn": "0x13b2", "page_type": "dirty LRU page", "action_result": "Recovered"}),
        ("aer_event", {"timestamp": at, "dev_name": "0000:3b:00.0", "err_type": "Corrected"}),
        ("arm_event", {"timestamp": at, "mpidr": 0x81000000, "affinity": 0}),
        ("cxl_dram_event", {"timestamp": at, "memdev": "mem0", "log_type": "Fatal"}),
    )  # fmt: skip
    found = read(path, Failed((0x13B2,)))
    assert not found.corrected and not found.not_checked
    assert {(e.kind, e.place, e.count) for e in found.others} == {
        ("uncorrected", "DIMM_A1", 2),
        ("uncorrected", "socket 0, machine-check bank 1", 1),
        ("fatal", "DIMM_C1", 1),
        ("memory-failure", "page 0x13b2", 1),
        ("uncorrected", "mem0", 1),
        ("other", "0000:3b:00.0", 1),
        ("other", "CPU with MPIDR 0x81000000", 1),
    }
    assert {e.place for e in found.others if e.on_failed == ("page",)} == {"DIMM_A1", "page 0x13b2"}


def test_machine_checks_count_where_edac_does_not(tmp_path: Path) -> None:
    at = "2026-11-22 10:00:00 +0000"
    row = ("mce_record", {"timestamp": at, "status": 0x8C00004000010091 - (1 << 64), "bank": 7, "socketid": 1, "cpuvendor": 0, "mcgstatus": 0})  # fmt: skip
    alone = read(database(tmp_path / "a", row))
    assert [(e.place, e.count) for e in alone.corrected] == [("socket 1, machine-check bank 7", 1)]
    both = read(database(tmp_path / "b", row, mc(at)))
    assert [(e.place, e.count) for e in both.corrected] == [("DIMM_A1", 1)]


def test_an_older_version_s_columns(tmp_path: Path) -> None:
    old = MC.replace(", driver_detail TEXT", "").replace(" err_msg TEXT,", "")
    name, row = mc("2026-11-22 10:00:00 +0000")
    del row["driver_detail"], row["err_msg"]
    found = read(database(tmp_path / "db", (name, row), tables=[old]))
    assert [(e.place, e.count) for e in found.corrected] == [("DIMM_A1", 1)]
    assert not found.not_checked


def test_times_that_can_t_be_read_are_told(tmp_path: Path) -> None:
    path = database(
        tmp_path / "db",
        mc("1970-01-01 00:00:00 +0000"),
        mc("yesterday"),
        mc("2026-11-22 10:00:00"),
        mc("2026-11-22 10:00:00 +0000"),
    )
    found = read(path)
    assert [e.count for e in found.corrected] == [1]
    assert [row.why[:12] for row in found.not_checked] == ["3 of them ha"]


@pytest.mark.parametrize("damage", ["text", "cut", "empty", "other", "locked", "flipped"])
def test_a_database_that_is_none(tmp_path: Path, damage: str) -> None:
    path = database(tmp_path / "db", *(mc("2026-11-22 10:00:00 +0000") for _ in range(500)))
    data = path.read_bytes()
    if damage == "text":
        path.write_bytes(b"not a database at all\n" * 300)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 3])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        path.unlink()
        database(path, tables=["CREATE TABLE x (y)", "CREATE VIEW mc_event AS SELECT 1"])
    elif damage == "flipped":
        chance = random.Random(1)
        raw = bytearray(data)
        for _ in range(400):
            raw[chance.randrange(100, len(raw))] = chance.randrange(256)
        path.write_bytes(raw)
    else:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            assert read(path).corrected  # a copy has no lock of its own
        return
    assert read(path).not_checked


CELLS = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.text(max_size=30),
    st.binary(max_size=30),
    st.sampled_from(
        ("2026-11-22 10:00:00 +0000", "Corrected", "Uncorrected", "\x1b[31m", "0x13b2")
    ),
)


@settings(max_examples=60, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(st.data())
def test_any_cell(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("db") / "db"
    rows = []
    for table in TABLES:
        name = table.split()[2]
        columns = [part.split()[0] for part in table.partition("(")[2].split(", ")][1:]
        for _ in range(data.draw(st.integers(0, 3))):
            row = {column: data.draw(CELLS) for column in columns}
            if data.draw(st.booleans()):
                row["timestamp"] = "2026-11-22 10:00:00 +0000"
            rows.append((name, row))
    found = read(
        database(path, *rows), Failed((0x13B2,), 4096, frozenset({"x"}), (Location(bank=1),))
    )
    for entry in (*found.corrected, *found.others):
        assert entry.count >= 0 and (entry.place or "").isprintable()


def test_many_events_take_no_time(tmp_path: Path) -> None:
    path = database(tmp_path / "db")
    with closing(sqlite3.connect(path)) as db:
        name, row = mc("2026-11-22 10:00:00 +0000")
        values = [(*row.values(),)] * 200_000
        db.executemany(
            f"INSERT INTO {name} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", values
        )
        db.commit()
    start = time.process_time()
    (entry,) = read(path).corrected
    assert entry.events == 200_000 and time.process_time() - start < 8
    assert entry.same == ("page",)  # not all of the details were looked at


def test_a_dump_with_its_host_s_history(tmp_path: Path) -> None:
    capsule = ROOT / "fixtures" / "x86_64-dentry" / "capsule.elf.zst"
    bare = analyze(capsule).triage
    assert bare.page is not None and bare.dump.crash_time is not None
    address = int(bare.page.physical_address or "0", 16) + 64
    crash = datetime.fromisoformat(bare.dump.crash_time)
    path = database(
        tmp_path / "db",
        mc(f"{crash:%Y-%m-%d} 00:00:01 +0000", address=address),
        mc("2040-01-01 00:00:00 +0000"),
    )
    triage = analyze(capsule, rasdaemon_db=path).triage
    (entry,) = triage.corrected_errors[len(bare.corrected_errors) :]
    assert (entry.source, entry.count, entry.on_failed) == ("rasdaemon", 1, ("page",))
    assert triage.verdict == bare.verdict and triage.not_checked == bare.not_checked
    assert from_json(to_json(triage)) == triage
    for name in FORMATS:
        assert render(triage, name)
    with pytest.raises(UsageError):
        analyze(capsule, rasdaemon_db=tmp_path / "missing")

"""The table's columns, declared once: what is written, read and documented goes by this list.

``docs/fleet-schema.md`` is made from it (``make refresh``).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Dtype = Literal["category", "string", "Int64", "Float64", "boolean", "datetime64[us, UTC]"]

TIME: Dtype = "datetime64[us, UTC]"


class Column(NamedTuple):
    """One column: its name, its pandas dtype, its unit (or ``""``), and what it means.

    ``source`` says who writes it: the batch's own record of the dump, or the triage's row.
    """

    name: str
    dtype: Dtype
    unit: str
    meaning: str
    source: Literal["record", "row"] = "row"


COLUMNS: tuple[Column, ...] = (
    # what the batch knows of the dump
    Column(
        "key",
        "string",
        "",
        "Name of the dump's files: `reports/KK/KEY.html`, where KK are its first two characters.",
        "record",
    ),
    Column(
        "source", "string", "", "Where the dump lies: a path or a URL. One row a source.", "record"
    ),
    Column(
        "status",
        "category",
        "",
        "`ok`, `failed` or `skipped`. Only `ok` rows have what follows from the analysis.",
        "record",
    ),
    Column("reason", "string", "", "Why it failed or was skipped.", "record"),
    Column("size_bytes", "Int64", "bytes", "Size of the dump as it lies there.", "record"),
    Column("attempts", "Int64", "", "How often it was tried.", "record"),
    Column("seconds", "Float64", "seconds", "How long the analysis took.", "record"),
    Column("peak_bytes", "Int64", "bytes", "The most memory that it took.", "record"),
    Column("finished", TIME, "UTC", "When the analysis ended.", "record"),
    Column("tool_version", "category", "", "The mftriage that analysed it.", "record"),
    # the machine
    Column(
        "host",
        "category",
        "",
        "Host name as the dump has it. Null where it has none, or only `localhost`.",
    ),
    Column(
        "crash_time",
        TIME,
        "UTC",
        "When it crashed; of a machine that did not, when the dump or the log ends. Null where the clock was plainly wrong (before 2005, or after the analysis).",
    ),
    Column("uptime_seconds", "Float64", "seconds", "How long it was up."),
    Column("kernel", "category", "", "Kernel release."),
    Column("build_id", "category", "", "Build ID of the kernel."),
    Column("arch", "category", "", "`x86_64` or `arm64`."),
    Column(
        "tier", "category", "", "Where symbols came from: `dwarf`, `btf`, `vmcoreinfo`, `log-only`."
    ),
    # the verdict
    Column("verdict", "category", "", "Kind of the verdict, as in [schema.md](schema.md#verdict)."),
    Column("confidence", "category", "", "`certain`, `high`, `medium` or `low`."),
    Column("summary", "string", "", "The verdict in a sentence."),
    Column("signature", "category", "", "The triage's signature, whole."),
    Column("cause", "category", "", "Its first level: the cause, without where it crashed."),
    Column("panic_message", "string", "", "The kernel's last words."),
    Column(
        "crash_site",
        "category",
        "",
        "Function that crashed, without the frames of dying and the compiler's suffixes. Null where the hardware error itself stopped the machine: it says nothing there.",
    ),
    # the page
    Column("pfn", "string", "hex", "The page that the verdict is about."),
    Column("physical_address", "string", "hex", "Its address, or that of the bad line in it."),
    Column("owner", "category", "", "Kind of its owner, as the dump proves it."),
    Column("slab_cache", "category", "", "The owner's slab cache."),
    Column("object_type", "category", "", "Type of the slab object that was hit."),
    Column(
        "page_type",
        "category",
        "",
        "The kernel's own words for the page. They can be too coarse: see `owner`.",
    ),
    Column(
        "action",
        "category",
        "",
        "What the kernel said of its last failure: `ignored`, `failed`, `delayed`, `recovered`.",
    ),
    # the memory
    Column(
        "dimm",
        "category",
        "",
        "The DIMM, named so that dumps of the same one have the same name: by its serial number, else by its place in its host. Null where the records name none, or several.",
    ),
    Column(
        "dimm_by",
        "category",
        "",
        "What `dimm` goes by: `serial` (it follows a DIMM from host to host) or `place`.",
    ),
    Column("dimm_label", "category", "", "Its label."),
    Column("dimm_locator", "category", "", "Its place on the board, in SMBIOS's words."),
    Column("dimm_manufacturer", "category", "", "Its maker."),
    Column("dimm_part_number", "category", "", "Its part number."),
    Column("dimm_serial_number", "category", "", "Its serial number."),
    Column(
        "rank", "Int64", "", "Rank of the error, where the hardware's record of this page has it."
    ),
    Column("bank", "Int64", "", "Bank, likewise."),
    Column("row", "Int64", "", "Row, likewise."),
    Column("column", "Int64", "", "Column, likewise."),
    # the course
    Column(
        "injected",
        "boolean",
        "",
        "Whether a test made the error. Null where nothing tells. Injected rows never count against a DIMM, a host or a page.",
    ),
    Column(
        "delay_seconds",
        "Float64",
        "seconds",
        "From the first uncorrected error of the page to the crash, where memory is blamed (or may be) and both times are known exactly.",
    ),
    Column(
        "sysctl",
        "Int64",
        "",
        "vm.panic_on_unrecoverable_memory_failure. Null where the kernel has none, or it is not known.",
    ),
    Column(
        "caught_at_once",
        "boolean",
        "",
        "Of a later crash: whether that sysctl, set to 1, would have stopped the machine at the error. It would where the owner is one that it covers and it was off or absent. Null for all others, and where the owner is not known.",
    ),
    Column(
        "corrected_before",
        "Int64",
        "errors",
        "Corrected memory errors that the dump tells of, on all DIMMs.",
    ),
    Column(
        "recovered_before",
        "Int64",
        "failures",
        "Memory failures of this boot that the kernel recovered from.",
    ),
)

DTYPES: dict[str, Dtype] = {column.name: column.dtype for column in COLUMNS}
ROW_KEYS = tuple(column.name for column in COLUMNS if column.source == "row")


def documentation() -> str:
    """Return ``docs/fleet-schema.md``."""
    lines = [
        "# The fleet table",
        "",
        "One row a dump. `mftriage fleet DIR -f csv`, `-f json` and `-f parquet` write these columns, in this",
        "order, and `mftriage.fleet.load(DIR)` returns them as a pandas DataFrame. This page is made from",
        "`mftriage/fleet/schema.py` by `make refresh`.",
        "",
        "- What is not known is null: `NA` in pandas, empty in CSV.",
        "- Times are UTC. pfns and addresses are lower-case hex strings, as in [the JSON result](schema.md).",
        "- Strings come out of dumps and are untrusted. In CSV, what a spreadsheet would take for a formula",
        "  has an apostrophe in front.",
        "- Columns may be added. A file of an older mftriage lacks them; they are read as null.",
        "",
    ]
    for source, title in (("record", "Of the batch"), ("row", "Of the triage")):
        lines += [
            f"## {title}",
            "",
            "| column | dtype | unit | meaning |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{c.name}` | `{c.dtype}` | {c.unit} | {c.meaning} |"
            for c in COLUMNS
            if c.source == source
        ]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"

"""The command line: parse, call, exit code.  No logic."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mftriage import __version__
from mftriage.errors import DumpError, MftriageError, UsageError

if TYPE_CHECKING:
    from mftriage.model import Triage

_PLAIN: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(
    name="mftriage",
    help="Say whether a hardware memory error killed the machine, and prove it, from its crash dump.",
    no_args_is_help=True,
    **_PLAIN,
)

_ORDER = ("unrecoverable-panic", "fatal-hardware-error", "delayed-crash", "possible-delayed-crash")

PathArgument = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        readable=False,
        help="A vmcore, a folder with one in it, or a kernel log (- for standard input).",
    ),
]
SymbolsOption = Annotated[
    str | None,
    typer.Option(
        "-s",
        "--symbols",
        metavar="VMLINUX",
        help="vmlinux with debug info: a file, a folder, or 'auto' to look for one.",
    ),
]
FormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "-f",
        "--format",
        metavar="FORMAT",
        help="text, json, markdown or html; may be given more than once.",
    ),
]
OutputOption = Annotated[
    str | None,  # a Path forgets the slash at the end of a folder that is still to be made
    typer.Option("-o", "--output", metavar="FILE|DIR", help="Write there instead of to stdout."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Write over files that exist.")]
RedactOption = Annotated[
    bool,
    typer.Option("--redact", help="Mask what identifies a host or its users by stable tokens."),
]
RedactMapOption = Annotated[
    Path | None,
    typer.Option(
        "--redact-map",
        metavar="FILE",
        readable=False,
        help="--redact with this map: the key, and what each token stands for. Keep it private.",
    ),
]
LeanOption = Annotated[
    bool, typer.Option("--lean", help="Leave the type and symbol tables out of the capsule.")
]
ScanOption = Annotated[
    float, typer.Option("--scan-seconds", min=0.0, help="Time for the scan for poisoned pages.")
]
FailOnOption = Annotated[
    str | None,
    typer.Option("--fail-on", metavar="VERDICT", help="Exit 1 for this verdict or a surer one."),
]

FleetArgument = Annotated[
    Path, typer.Argument(metavar="DIR", readable=False, help="The folder that a batch wrote to.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mftriage {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def analyze(
    path: PathArgument,
    symbols: SymbolsOption = None,
    formats: FormatOption = None,
    output: OutputOption = None,
    capsule: Annotated[
        Path | None,
        typer.Option("--capsule", metavar="FILE", help="Also write the evidence capsule."),
    ] = None,
    lean: LeanOption = False,
    fail_on: FailOnOption = None,
    why: Annotated[
        bool, typer.Option("--why", help="Also say on stderr which rules led to the verdict.")
    ] = False,
    rasdaemon_db: Annotated[
        Path | None,
        typer.Option(
            "--rasdaemon-db",
            metavar="FILE",
            help="The host's ras-mc_event.db: adds the errors before the crash.",
        ),
    ] = None,
    scan_seconds: ScanOption = 10.0,
    force: ForceOption = False,
    redact: RedactOption = False,
    redact_map: RedactMapOption = None,
) -> None:
    """Triage one dump and report on stdout."""
    from mftriage.triage import analyze as run

    _check_fail_on(fail_on)
    if (redact or redact_map is not None) and (capsule is not None or why):
        raise _unmasked("--why" if capsule is None else "--capsule")
    wanted = _formats(formats, output)
    analysis = run(
        path,
        vmlinux=symbols,
        scan_seconds=scan_seconds,
        rasdaemon_db=rasdaemon_db,
        progress=_progress,
    )
    try:
        if capsule is not None:
            from mftriage.capsule import write

            write(analysis, capsule, lean=lean, force=force)
    finally:
        analysis.close()
    _emit(_redacted(analysis.triage, redact, redact_map), wanted, output, force)
    if why and analysis.facts is not None:
        from mftriage.verdict.explain import why as reasons

        sys.stderr.write(reasons(analysis.facts) + "\n")
    if _fails(fail_on, analysis.triage.verdict.kind):
        raise typer.Exit(1)


@app.command()
def batch(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder with dumps in it, or a single file.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")],
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Dumps at a time; one a CPU by default.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only what changed since: 7d, 2026-11-23."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, help="Analyse the newest N of the new ones.")
    ] = None,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="Later runs that try a failed dump again.")
    ] = 2,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="The most that one dump may take.")
    ] = "10m",
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="The most memory that one may take.")
    ] = "2G",
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="ADDRESS", help="A Dask scheduler that has it done."),
    ] = None,
    capsules: Annotated[
        bool, typer.Option("--capsules", help="Also write each dump's evidence capsule (lean).")
    ] = False,
    symbols: SymbolsOption = None,
    scan_seconds: ScanOption = 10.0,
    fail_on: FailOnOption = None,
    attach: Annotated[
        str | None,
        typer.Option(
            "--attach",
            metavar="SYSTEM:TARGET",
            help="Put new results that blame memory, and are sure, on tickets.",
        ),
    ] = None,
    attach_most: Annotated[
        int, typer.Option("--attach-most", min=0, help="The most tickets of one run.")
    ] = 20,
    redact: RedactOption = False,
    redact_map: RedactMapOption = None,
) -> None:
    """Triage all new dumps of a folder: the nightly job of a fleet."""
    import time

    from mftriage.fleet import batch as fleet
    from mftriage.fleet import progress, units

    _check_fail_on(fail_on)
    if redact and redact_map is None:
        redact_map = out / "redact-map"
    if redact_map is not None and capsules:
        raise _unmasked("--capsules")
    target = None
    if attach is not None:
        from mftriage.tickets.deliver import check_batch, deliver_new
        from mftriage.tickets.target import parse

        target = parse(attach)
        check_batch(target, os.environ)
    named = None if redact_map is None else str(redact_map.absolute())
    plan = fleet.Plan(
        fleet.Settings(symbols, scan_seconds, capsules, named),
        fleet.Limits(units.duration(timeout), units.size(memory)),
        jobs or len(os.sched_getaffinity(0)),
        None if since is None else units.moment(since, time.time()),
        limit,
        retries,
        cluster,
    )
    terminal = sys.stderr is not None and sys.stderr.isatty()
    summary = fleet.run(source, out, plan, progress.Progress(_tell, terminal))
    _print(progress.summary_text(summary, out))
    if target is not None:
        for line in deliver_new(summary.reports, target, os.environ, most=attach_most):
            _print(line)
    if any(_fails(fail_on, verdict) for verdict in summary.verdicts):
        raise typer.Exit(1)
    if summary.all["failed"]:
        raise typer.Exit(4)


class _Fleet(typer.core.TyperGroup):
    """``fleet DIR`` is short for ``fleet table DIR``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is no word of the group's belongs to the table."""
        known = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if known else ["table", *args])


fleet_app = typer.Typer(cls=_Fleet, help="The results of a batch as one table.", **_PLAIN)
app.add_typer(fleet_app, name="fleet")


@fleet_app.command("table", epilog="mftriage fleet prune -h: remove reports of long ago.")
def fleet_table(
    folder: FleetArgument,
    fmt: Annotated[
        str,
        typer.Option(
            "-f",
            "--format",
            metavar="FORMAT",
            help="table, csv, parquet, json, markdown or html (a dashboard).",
        ),
    ] = "table",
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="GROUP",
            help="dimm, host, slab_cache, owner, kernel, signature, cause or week.",
        ),
    ] = None,
    output: OutputOption = None,
    force: ForceOption = False,
    redact: RedactOption = False,
    redact_map: RedactMapOption = None,
) -> None:
    """Show who offends again, and the fleet's figures; or all dumps as data or a dashboard."""
    from mftriage.fleet import file_name, render
    from mftriage.fleet.layout import unwritable, write_whole
    from mftriage.text import clean

    target = None if output is None else Path(output)
    if target is not None and output is not None and (output.endswith("/") or target.is_dir()):
        target /= file_name(fmt)
    if target is not None and target.exists() and not force:
        raise UsageError(f"{str(target)!r} exists", "add --force to write over it")
    if redact and redact_map is None:
        redact_map = folder / "redact-map"
    made, problems = render(
        folder, fmt, by=by, width=_width(), target=target, redact_map=redact_map
    )
    for problem in problems:
        _tell(f"mftriage: left out: {clean(problem)}\n")
    if target is None:
        if fmt == "parquet":
            raise UsageError("parquet is no text", "write it to a file: -o FILE")
        _print(made.decode().rstrip("\n"))
        return
    try:
        write_whole(target, made)
    except OSError as error:
        raise unwritable(target, error) from error
    _wrote(target)


@fleet_app.command("prune")
def fleet_prune(
    folder: FleetArgument,
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", help="Remove reports of older analyses: 90d.")
    ],
    keep_capsules: Annotated[
        str | None,
        typer.Option("--keep-capsules", metavar="TIME", help="Another time for capsules."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove reports and capsules of long ago; the table stays as it is."""
    from mftriage.fleet import units
    from mftriage.fleet.prune import prune
    from mftriage.render.words import count, size

    capsules = None if keep_capsules is None else units.duration(keep_capsules)
    gone = prune(folder, units.duration(keep), keep_capsules=capsules, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    _print(f"{verb} {count(gone.files, 'file')}, {size(gone.size_bytes)}")


@app.command("capsule")
def capsule_command(
    path: PathArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to; .zst compresses most.")
    ],
    symbols: SymbolsOption = None,
    lean: LeanOption = False,
    scan_seconds: ScanOption = 10.0,
    force: ForceOption = False,
) -> None:
    """Cut the evidence capsule: the pages that the analysis reads, as a small vmcore."""
    from mftriage.capsule import write
    from mftriage.triage import analyze as run

    analysis = run(path, vmlinux=symbols, scan_seconds=scan_seconds, progress=_progress)
    try:
        write(analysis, output, lean=lean, force=force)
    finally:
        analysis.close()


@app.command()
def convert(
    path: Annotated[
        Path, typer.Argument(metavar="TRIAGE.json", readable=False, help="A saved JSON result.")
    ],
    formats: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    redact: RedactOption = False,
    redact_map: RedactMapOption = None,
) -> None:
    """Render a saved JSON result in another format."""
    from mftriage.codec import from_json

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"can't read {str(path)!r}: {getattr(error, 'strerror', error)}",
            "name a JSON result of mftriage",
        ) from error
    wanted = _formats(formats, output)
    _emit(_redacted(from_json(text), redact, redact_map), wanted, output, force)


@app.command()
def attach(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="TRIAGE.json|VMCORE", readable=False, help="A saved JSON result, or a dump."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="SYSTEM:TARGET", help="The ticket or project: github:OWNER/REPO#12."
        ),
    ],
    capsule: Annotated[
        bool, typer.Option("--capsule", help="Attach the evidence capsule too; needs the dump.")
    ] = False,
    lean: LeanOption = False,
    update: Annotated[
        bool, typer.Option("--update", help="Only change what is there; add nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")
    ] = False,
    symbols: SymbolsOption = None,
    scan_seconds: ScanOption = 10.0,
    redact: RedactOption = False,
    redact_map: RedactMapOption = None,
) -> None:
    """Put the report on a ticket, once, with the evidence attached."""
    from mftriage.tickets.attach import parcel
    from mftriage.tickets.deliver import check, deliver, saved
    from mftriage.tickets.target import parse

    if capsule and (redact or redact_map is not None):
        raise _unmasked("--capsule")
    target = parse(to)
    check(target, os.environ)
    triage, evidence = saved(path), None
    if triage is not None and capsule:
        raise UsageError("a saved result has no memory for a capsule", "name the dump instead")
    if triage is None:
        from mftriage.triage import analyze as run

        analysis = run(path, vmlinux=symbols, scan_seconds=scan_seconds, progress=_progress)
        try:
            triage = analysis.triage
            if capsule:
                from mftriage.capsule import content

                evidence = content(analysis, lean=lean)
        finally:
            analysis.close()
    sent = parcel(_redacted(triage, redact, redact_map), evidence)
    for line in deliver(sent, target, os.environ, update_only=update, dry_run=dry_run):
        _print(line)


@app.command()
def schema() -> None:
    """Print the JSON schema of the result."""
    import json

    from mftriage.codec import schema as make

    _print(json.dumps(make(), indent=2))


@app.command()
def explain(rule: Annotated[str | None, typer.Argument(metavar="[RULE]")] = None) -> None:
    """Say what a rule of the verdict means; without a name, list them."""
    import inspect

    from mftriage.verdict import RULES
    from mftriage.verdict.explain import explained

    if rule is None:
        for name, function in RULES.items():
            _print(f"{name:24} {(inspect.getdoc(function) or '').splitlines()[0]}")
        return
    if rule not in RULES:
        raise UsageError(f"there is no rule {rule!r}", f"one of: {', '.join(RULES)}")
    _print(explained(rule, RULES[rule]))


def _check_fail_on(fail_on: str | None) -> None:
    if fail_on is not None and fail_on not in _ORDER:
        raise UsageError(f"--fail-on knows no verdict {fail_on!r}", f"one of: {', '.join(_ORDER)}")


def _fails(fail_on: str | None, verdict: str) -> bool:
    """Whether a verdict is at or above the one of ``--fail-on``."""
    if fail_on is None or verdict not in _ORDER:
        return False
    return _ORDER.index(verdict) <= _ORDER.index(fail_on)


def _formats(formats: list[str] | None, output: str | None) -> list[str]:
    """The formats that are wanted, each once."""
    from mftriage.render import FORMATS

    named = (name.strip() for entry in formats or ["text"] for name in entry.split(","))
    wanted = list(dict.fromkeys(named))
    for name in wanted:
        if name not in FORMATS:
            raise UsageError(f"there is no format {name!r}", f"one of: {', '.join(FORMATS)}")
    if output is None and len(wanted) > 1:
        raise UsageError(
            f"stdout has room for one format, not for {', '.join(wanted)}",
            "name a folder for them: -o DIR",
        )
    if output == "":
        raise UsageError("-o names no file", "give it a file or a folder: -o FILE")
    return wanted


def _unmasked(option: str) -> UsageError:
    return UsageError(f"{option} shows what --redact masks", f"drop {option} or --redact")


def _redacted(triage: Triage, wanted: bool, path: Path | None) -> Triage:
    """The triage without what identifies, if that is wanted."""
    if not wanted and path is None:
        return triage
    from mftriage.redact import redacting

    if path is None:
        from platformdirs import user_data_path

        path = user_data_path("mftriage") / "redact-map"
    with redacting(path) as redactor:
        return redactor.triage(triage)


def _emit(triage: Triage, formats: list[str], output: str | None, force: bool) -> None:
    """Write each format: to stdout, a file, or a folder (one file a format)."""
    from mftriage.render import render, suffix

    if output is None:
        for name in formats:
            terminal = sys.stdout is not None and sys.stdout.isatty()
            color = name == "text" and terminal and not os.environ.get("NO_COLOR")
            _print(render(triage, name, color=color, width=_width()).rstrip("\n"))
        return
    folder = output.endswith("/") or os.path.isdir(output) or len(formats) > 1
    for name in formats:
        target = Path(output, f"report{suffix(name)}") if folder else Path(output)
        try:
            if target.exists() and not force:
                raise UsageError(f"{str(target)!r} exists", "add --force to write over it")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(render(triage, name).rstrip("\n") + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"can't write {str(target)!r}: {error.strerror}", "choose another place with -o"
            ) from error
        _wrote(target)


def _wrote(target: Path) -> None:
    from mftriage.text import clean

    shown = clean(str(target)).replace("\n", "\\n")
    _tell(f"wrote {shown}\n")


def _width() -> int:
    """Columns of the terminal that stdout is; 100 where it is none."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return os.get_terminal_size().columns if terminal else 100


def _print(text: str) -> None:
    """Write to stdout; a reader that has left is no error, a full disk is one."""
    if sys.stdout is None:
        raise UsageError("can't write the report: stdout is closed", "write it to a file: -o FILE")
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UsageError(
            f"can't write the report: {error.strerror}", "write it to a place with room: -o FILE"
        ) from error


def _progress(label: str, done: int, total: int) -> None:
    """One line on stderr, only where a person looks."""
    if sys.stderr is not None and sys.stderr.isatty() and total:
        end = "\n" if done >= total else ""
        _tell(f"\r{label}: {100 * done // total} %{end}")


def _tell(text: str) -> None:
    """Write to stderr, where there is one: that nobody listens changes nothing of the result."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def _keep_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, a file opened later would get its number, and a library's words."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _fail(error: MftriageError) -> NoReturn:
    from mftriage.text import clean

    _tell(f"mftriage: {clean(error.message)}\n  try: {clean(error.remedy)}\n")
    raise SystemExit(error.exit_code)


def main() -> NoReturn:
    """Run the command line, and turn what goes wrong into one sentence and an exit code."""
    _keep_standard_descriptors()
    try:
        app(standalone_mode=True)
    except MftriageError as error:
        _fail(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except MemoryError:
        _fail(DumpError("there is not enough memory for it", "try a machine that has more"))
    except Exception as error:
        # The last resort: our own bug, told as one.
        from mftriage.text import clean

        what = clean(f"{type(error).__name__}: {error}"[:500])
        _tell(f"mftriage: a bug of mftriage: {what}\n  try: report it with the command line\n")
        if os.environ.get("MFTRIAGE_DEBUG"):
            import traceback

            traceback.print_exc()
        raise SystemExit(70) from None
    raise SystemExit(0)

"""The command line: parse, call, exit code.  No logic."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mftriage import __version__
from mftriage.errors import DumpError, MftriageError, UsageError

app = typer.Typer(
    name="mftriage",
    help="Say whether a hardware memory error killed the machine, and prove it, from its crash dump.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ORDER = ("unrecoverable-panic", "fatal-hardware-error", "delayed-crash", "possible-delayed-crash")

PathArgument = Annotated[
    Path,
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
LeanOption = Annotated[
    bool, typer.Option("--lean", help="Leave the type and symbol tables out of the capsule.")
]
ScanOption = Annotated[
    float, typer.Option("--scan-seconds", min=0.0, help="Time for the scan for poisoned pages.")
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
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on", metavar="VERDICT", help="Exit 1 for this verdict or a surer one."
        ),
    ] = None,
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
) -> None:
    """Triage one dump and report on stdout."""
    from mftriage.triage import analyze as run

    if fail_on is not None and fail_on not in _ORDER:
        raise UsageError(f"--fail-on knows no verdict {fail_on!r}", f"one of: {', '.join(_ORDER)}")
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
    _emit(analysis.triage, wanted, output, force)
    if why and analysis.facts is not None:
        from mftriage.verdict.explain import why as reasons

        sys.stderr.write(reasons(analysis.facts) + "\n")
    verdict = analysis.triage.verdict.kind
    if fail_on is not None and verdict in _ORDER and _ORDER.index(verdict) <= _ORDER.index(fail_on):
        raise typer.Exit(1)


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
    _emit(from_json(text), wanted, output, force)


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


def _emit(triage: object, formats: list[str], output: str | None, force: bool) -> None:
    """Write each format: to stdout, a file, or a folder (one file a format)."""
    from mftriage.model import Triage
    from mftriage.render import render, suffix
    from mftriage.text import clean

    assert isinstance(triage, Triage)
    if output is None:
        for name in formats:
            terminal = sys.stdout is not None and sys.stdout.isatty()
            color = name == "text" and terminal and not os.environ.get("NO_COLOR")
            width = os.get_terminal_size().columns if terminal else 100
            _print(render(triage, name, color=color, width=width).rstrip("\n"))
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
        shown = clean(str(target)).replace("\n", "\\n")
        _tell(f"wrote {shown}\n")


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

"""Output of all commands: messages, progress, tables, questions, exit codes. Only this module uses Rich for tables.

    stdout   data: the closing table, or with --json one JSON object as the last line
    stderr   messages: progress, notes, questions, errors

A command is a click command with the decorator `options`, which gives it a `Terminal`; `run` starts it.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from paystack_source.api.keys import SecretKey
from paystack_source.cli.log import FORMATS, RunContext, as_line, value_of, warnings_to
from paystack_source.errors import ExitCode, UsageError
from paystack_source.failures import Failure, explain, masked_traceback
from paystack_source.interrupts import redeliver_interrupts
from paystack_source.progress import (
    LatestProgress,
    LineView,
    Progress,
    View,
    fitting_view,
    tolerate_closed_reader,
)
from paystack_source.values import visible

TERMINAL = Path("CONIN$" if os.name == "nt" else "/dev/tty")
_WIDTH = 160  # if the output is not a terminal
_ENDLESS = 1_000_000
_IN_ASCII = {"…": "...", "→": "->", "·": "-"}


def clean(text: object) -> str:
    """`text` line by line without control, bidi and invisible characters."""
    return "\n".join(visible(line) for line in str(text).split("\n"))


@dataclass
class Terminal:
    """The output of a command. `json_output` moves all but the last line to stderr; `quiet` drops messages.

    With `json_log` each message is a JSON object with the fields of `context`. The streams are looked up at each use,
    so notebooks and tests can redirect them.
    """

    json_output: bool = False
    json_log: bool = False
    quiet: bool = False
    traceback: bool = False
    context: RunContext = field(default_factory=RunContext)
    stdin_is_data: bool = False
    """Whether the command reads its data from standard input, so that no answer can come from there."""
    lost: OSError | None = None
    """The error of a full disk, if some of the output was lost."""
    waits: LatestProgress = field(default_factory=LatestProgress)
    """The `on_wait` of the client: shows the wait in the progress display."""

    def say(self, text: object) -> None:
        if not self.quiet:
            self._talk("info", text)

    def warn(self, text: object) -> None:
        """Show a warning, also when quiet."""
        self._talk("warning", text, ("warning: ", "yellow"))

    def _talk(self, level: str, text: object, mark: tuple[str, str] = ("", "")) -> None:
        if self.json_log:
            self._log(level, text)
        else:
            self._print(sys.stderr, Text.assemble(mark, clean(text)))

    def use(self, key: SecretKey) -> None:
        """Show where the key of this run came from, and its fingerprint; `context` keeps both for the result."""
        self.context.key = key.provenance
        if not self.context.sandbox:
            self.say(f"Key: {key} with the fingerprint {key.fingerprint}, from {key.source}")

    def report(self, error: BaseException) -> tuple[int, dict[str, Any]]:
        """Show an error; returns the exit code and the object for --json."""
        failure = explain(error)
        self._fail(failure, clean(masked_traceback(error)) if self.traceback else "")
        return failure.exit_code, failure.as_json() | self.context.as_json() | failure.details

    def _fail(self, failure: Failure, trace: str) -> None:
        """Show the traceback if it is wanted, then the message, then the advice."""
        interrupted = failure.exit_code == ExitCode.INTERRUPTED
        if self.json_log:
            more = {"error": failure.error, "advice": failure.advice, "exit_code": int(failure.exit_code)}
            known = {name: failure.details[name] for name in ("run_id",) if name in failure.details}
            level = "warning" if interrupted else "error"
            self._log(level, failure.message, **more, **known, **({"traceback": trace} if trace else {}))
            return
        if trace:
            self._write(sys.stderr, trace)
        kind, name = "" if interrupted else "error: ", self.context.account_name
        whose = f"{name}: " if name else ""
        self._print(sys.stderr, Text.assemble((kind, "bold red"), clean(f"{whose}{failure.message}")))
        if failure.advice:
            self._print(sys.stderr, Text(f"  {clean(failure.advice)}"))

    def progress(self, description: str, *, total: int | None = None, unit: str = "rows") -> Progress:
        """A progress display: a live bar, a notebook cell, or plain lines in a log."""
        view: View | None = None
        if not self.quiet:
            view = LineView(lambda text: self._log("info", text)) if self.json_log else fitting_view()
        return self.waits.follow(Progress(description, total=total, unit=unit, view=view))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show a table of data. If it is too wide for the terminal, each row is shown as a block."""
        rows = list(rows)
        if self.logs_data:
            cells = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
            self._log("info", title or "Rows", rows=cells)
            return
        shown = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for name in columns:
            shown.add_column(visible(name), overflow="fold")
        for row in rows:
            shown.add_row(*(Text("" if cell is None else visible(cell)) for cell in row))
        console = _console(self._data_stream)
        if (
            Measurement.get(console, console.options.update(max_width=_ENDLESS), shown).minimum
            > console.width
        ):
            for number, row in enumerate(rows, 1):
                label = f"{title}: {number}" if title else str(number)
                self.print_summary(label, zip(columns, row, strict=True))
            return
        if title:
            self._print(self._data_stream, Text(f"\n{visible(title)}", style="bold"))
        self._print(self._data_stream, shown)

    def lines(self, title: str, lines: Iterable[str]) -> None:
        """Show lines of data under a title."""
        self._print(self._data_stream, Text(f"\n{visible(title)}", style="bold"))
        for line in lines:
            self._print(self._data_stream, Text(visible(line)))

    def print_summary(
        self, title: str, rows: Iterable[tuple[str, object]], next_commands: Iterable[str] = ()
    ) -> None:
        """Show labels and values, then commands to paste, each unwrapped on its own line."""
        pairs = [(visible(label), "" if value is None else visible(value)) for label, value in rows]
        if self.logs_data:
            then = {"next": list(next_commands)} if next_commands else {}
            self._log("info", title, facts=dict(pairs), **then)
            return
        width = max((len(label) for label, _ in pairs), default=0)
        self._print(self._data_stream, Text(f"\n{visible(title)}", style="bold"))
        for label, value in pairs:
            self._print(self._data_stream, Text.assemble((f"  {label:<{width}}  ", "dim"), value))
        commands = [visible(command) for command in next_commands]
        if commands:
            self._print(self._data_stream, Text("\nNext:", style="bold"))
            for command in commands:
                self._print(self._data_stream, Text(f"  {command}", style="cyan"))

    def finish(
        self,
        title: str,
        rows: Iterable[tuple[str, object]],
        result: dict[str, Any],
        next_commands: Iterable[str] = (),
    ) -> None:
        """Show the closing table and, with --json, print `result`."""
        self.print_summary(title, rows, next_commands)
        if self.json_output:
            self.emit_json(self.context.account_fields() | result)

    def emit_json(self, result: dict[str, Any]) -> None:
        """Print one JSON object as the last line of stdout."""
        self._write_json(sys.stdout, result)

    def confirm(self, question: str, phrase: str | None = None) -> bool:
        """Ask for yes or no, or for the number `phrase` instead of a y. Raises `UsageError` without a terminal."""
        if phrase is not None:
            return self._ask(f"{question} Type {phrase} to go on: ").replace(",", "") == phrase
        return self._ask(f"{question} [y/N] ").lower() in {"y", "yes"}

    def _ask(self, question: str) -> str:
        with _keyboard(stdin_is_data=self.stdin_is_data) as typed:
            _forget_typed(typed)
            if self.json_log:
                self._log("info", question.strip())
            else:
                self._write(sys.stderr, clean(question))
            try:
                return typed.readline().strip()
            except UnicodeDecodeError:  # the terminal has another encoding
                return ""

    def _log(self, level: str, message: object, **more: Any) -> None:  # noqa: ANN401  # whatever JSON holds
        self._write_json(sys.stderr, self.context.line(level, clean(message).strip(), **more))

    @property
    def logs_data(self) -> bool:
        """Whether tables are log lines: with --json standard output has only the last line."""
        return self.json_output and self.json_log

    @property
    def _data_stream(self) -> IO[str]:
        return sys.stderr if self.json_output else sys.stdout

    def _print(self, stream: IO[str], what: Text | Table) -> None:
        console = _console(stream)
        with self._tolerate_lost_output(stream):
            with console.capture() as drawn:  # Rich would end the process if the reader has left
                console.print(what, soft_wrap=isinstance(what, Text))
            stream.write(drawn.get())

    def _write(self, stream: IO[str], text: str) -> None:
        with self._tolerate_lost_output(stream):
            stream.write(text)

    def _write_json(self, stream: IO[str], record: dict[str, Any]) -> None:
        encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
        self._write(stream, as_line(record, ascii_only=encoding != "utf8"))

    def require_shown(self) -> None:
        """Raise if output was lost: for commands that only show something."""
        if self.lost:
            raise self.lost

    def _tolerate_lost_output(self, stream: IO[str]) -> contextlib.AbstractContextManager[None]:
        """Ignore a closed reader and a full disk; warn once about a full disk."""

        def lost(error: OSError) -> None:
            self.lost = self.lost or error
            if stream is sys.stdout:
                self.warn(
                    "The disk of standard output is full: the output there is lost, but the command continues."
                )

        return tolerate_closed_reader(stream, lost)


def _console(stream: IO[str]) -> Console:
    # force_jupyter=False: plain text as in a terminal, written to this stream.
    width = None if not stream.closed and stream.isatty() else _WIDTH
    return Console(file=stream, force_jupyter=False, markup=False, emoji=False, highlight=False, width=width)


@contextlib.contextmanager
def _keyboard(*, stdin_is_data: bool) -> Iterator[IO[str]]:
    """The stream of the user's answers. Raises `UsageError` if there is no terminal."""
    if not stdin_is_data and sys.stdin and sys.stdin.isatty():
        yield sys.stdin
        return
    try:
        if not stdin_is_data:
            raise OSError  # noqa: TRY301  # if standard input is redirected, --yes must answer
        terminal = TERMINAL.open(encoding="utf-8")
    except OSError:
        what = "is the list, and there is no terminal" if stdin_is_data else "is not a terminal"
        raise UsageError(
            f"This step asks a person to confirm, and standard input {what}.",
            "Add --yes to confirm beforehand, or run it in a terminal.",
        ) from None
    with terminal:
        yield terminal


def _forget_typed(keyboard: IO[str]) -> None:
    """Drop what was typed or pasted before the question was shown: it cannot be the answer."""
    if os.name != "nt":
        import termios  # noqa: PLC0415  # not on Windows

        with contextlib.suppress(AttributeError, OSError, termios.error):  # of a keyboard that is no device
            termios.tcflush(keyboard.fileno(), termios.TCIFLUSH)


def examples(*lines: str) -> str:
    """The end of a command's --help: lines to paste, each unwrapped."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that all commands share. `run` has read them; the command gets the argument `terminal`."""

    @_shared("--json", is_flag=True, help="End with one JSON object on standard output.")
    @_shared(
        "--log-format",
        type=click.Choice(FORMATS),
        default=FORMATS[0],
        show_default=True,
        help="json: each line on standard error is one JSON object.",
    )
    @_shared("--quiet", is_flag=True, help="No progress and no notes; warnings and the result are shown.")
    @_shared("--traceback", is_flag=True, help="Show where an error came from (or PAYSTACK_TRACEBACK=1).")
    @functools.wraps(command)
    def with_terminal(*args: object, **kwargs: object) -> object:
        return command(*args, terminal=click.get_current_context().ensure_object(Terminal), **kwargs)

    return with_terminal


_shared = functools.partial(click.option, expose_value=False)


def run(command: Callable[[], int | None] | click.Command, argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. An error ends as one message, with --json also as one object.

    `argv` is without the program's name; default: the process's own. Never raises.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    terminal = Terminal(
        json_output="--json" in args,
        json_log=value_of(args, "--log-format") == "json",
        quiet="--quiet" in args,
        traceback="--traceback" in args or os.environ.get("PAYSTACK_TRACEBACK", "") not in {"", "0"},
        context=RunContext.of_words(args),
    )
    _quiet_libraries()
    try:
        with _signals_interrupt(), warnings_to(terminal.warn):
            code = (
                command.main(args=args, standalone_mode=False, obj=terminal)
                if isinstance(command, click.Command)
                else command()
            )
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:  # noqa: BLE001  nothing may end in a raw traceback
        code, result = terminal.report(error)
        if terminal.json_output:
            terminal.emit_json(result)
    atexit.unregister(_ignore_signals)
    atexit.register(_ignore_signals)
    return int(code) if isinstance(code, int) else int(ExitCode.OK)


def _ignore_signals() -> None:
    """While Python ends, a signal would give another exit code than that of the outcome that was shown."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _quiet_libraries() -> None:
    """Switch off dlt's log, telemetry and signal handling, unless the user set them.

    dlt's handler delays a Ctrl-C while it loads, and forgets it if the load then ends.
    """
    os.environ.setdefault("RUNTIME__INTERCEPT_SIGNALS", "false")
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")


def write_utf8() -> None:
    """Make standard output UTF-8, whatever the system's encoding: for data that `bulk` reads again."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")


def _signals_interrupt() -> contextlib.AbstractContextManager[None]:
    """Make SIGTERM and a closed terminal end a run as Ctrl-C does, with exit code 130."""
    names = ("SIGTERM", "SIGHUP", "SIGBREAK")  # Windows has the last, and not the one before
    return redeliver_interrupts(*(getattr(signal, name) for name in names if hasattr(signal, name)))


def _open_streams() -> None:
    """Replace closed standard streams with the null device; the others get replacements for characters they lack.

    Otherwise the next file that is opened would get the descriptor of a closed stream.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # for good
        stream = getattr(sys, name)
        if mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="paystack_source.spelled")


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    """The text for characters that a stream cannot write: our own in ASCII, others as their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    ours = "".join(_IN_ASCII.get(each, each) for each in missing)
    return ours.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("paystack_source.spelled", _replacement)


def _plain(cell: object) -> object:
    return cell if cell is None or isinstance(cell, bool | int | float) else clean(cell)

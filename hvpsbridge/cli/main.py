"""Entry point: runs a command line, and turns each outcome into an exit code and each failure into a line.

The codes are those of :class:`~hvpsbridge.errors.ExitCode`; ``docs/exit-codes.md`` has the table. ``-vv``
shows tracebacks. The traceback of a bug is written to a file, whose name is printed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from hvpsbridge.cli.app import hvps
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.logs import printable, redact, tear_down
from hvpsbridge.cli.signals import restoring_signals
from hvpsbridge.cli.streams import lost_output, prepare_streams
from hvpsbridge.errors import (
    ExitCode,
    HvpsError,
    InternalError,
    Interrupted,
    OutputLost,
    UsageError,
    as_error,
    machine_error,
    worst,
)
from hvpsbridge.playbook.problems import PlaybookInvalid
from hvpsbridge.text import without_controls

logger = logging.getLogger(__name__)


def run() -> None:
    """The ``hvps`` program: runs the arguments of the process and exits."""
    prepare_streams()
    _switch_off_core_dumps()
    code = main(sys.argv[1:])
    failure = lost_output()
    if failure is not None:
        lost = machine_error(failure, "standard output")
        assert lost is not None
        error = OutputLost(lost.what, lost.advice, lost.full)
        _print_error(str(error))
        code = worst((code, error.code))
    sys.exit(code)


def _switch_off_core_dumps() -> None:
    """Keep keys in memory out of core dumps, of this process and of those that it starts."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: Sequence[str]) -> ExitCode:
    """Run a command line. Returns its exit code."""
    # Also if the command line turns out to be invalid before the option is reached.
    invocation = Invocation(as_json="--json" in arguments, as_lines="--json-lines" in arguments)
    with restoring_signals():
        return _main(arguments, invocation)


def _main(arguments: Sequence[str], invocation: Invocation) -> ExitCode:
    try:
        with invocation:
            result = hvps.main(list(arguments), prog_name="hvps", standalone_mode=False, obj=invocation)
        return result if isinstance(result, ExitCode) else ExitCode.DONE
    except click.exceptions.Exit as done:
        return ExitCode(done.exit_code)
    except click.UsageError as err:
        text = f"{err.format_message().rstrip('.')}; see `hvps {_command_path(err)}--help`"
        return _failed(UsageError(text), invocation)
    except click.ClickException as err:
        return _failed(UsageError(err.format_message()), invocation)
    except (click.Abort, KeyboardInterrupt):
        return _failed(Interrupted("SIGINT"), invocation)
    except HvpsError as err:
        return _failed(err, invocation)
    except BrokenPipeError:
        return ExitCode.DONE
    except Exception as err:  # noqa: BLE001 - anything else is a bug, or the machine's fault
        known = as_error(err)
        return (
            _bug(err, known, invocation) if isinstance(known, InternalError) else _failed(known, invocation)
        )
    finally:
        tear_down()


def _failed(err: HvpsError, invocation: Invocation) -> ExitCode:
    logger.debug("command failed", exc_info=err)
    for line in err.lines() if isinstance(err, PlaybookInvalid) else (str(err),):
        _print_error(line)
    _print_failure(err, invocation)
    return err.code


def _print_failure(err: HvpsError, invocation: Invocation) -> None:
    """A report, if the command prints JSON: a script that reads standard output always finds one."""
    if not (invocation.as_json or invocation.as_lines):
        return
    # Imports the reports of all tasks, which most commands do not need.
    from hvpsbridge.cli.run_output import output_format, print_document
    from hvpsbridge.report.documents.run import run_report
    from hvpsbridge.tasks.results import HostProblem, RunResult

    seconds = (datetime.now(UTC) - invocation.started).total_seconds()
    result = RunResult(invocation.run_id, invocation.started, seconds, (), (HostProblem("", err),))
    output = output_format(as_json=invocation.as_json, as_lines=invocation.as_lines)
    print_document(run_report(result, name="hvps", check=False), output)


def _bug(err: Exception, known: InternalError, invocation: Invocation) -> ExitCode:
    lines = redact("".join(traceback.format_exception(err))).split("\n")
    text = "\n".join(map(without_controls, lines))
    if invocation.verbosity >= 2:
        click.echo(text, err=True, nl=False)
    where = invocation.log_file
    if where is not None:
        logger.error("this is a bug in hvps", exc_info=err)
    else:
        where = _traceback_file(text, invocation)
    report = f"please report it with {where}" if where else "please report it with the output of -vv"
    _print_error(f"this is a bug in hvps: {known.what}; {report}")
    _print_failure(known, invocation)
    return ExitCode.BUG


def _traceback_file(text: str, invocation: Invocation) -> Path | None:
    """A new file with the traceback, readable by its owner only; None if there is no place for one."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"hvps-bug-{invocation.run_id.hex[:8]}-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return None
    return Path(name)


def _command_path(err: click.UsageError) -> str:
    path = err.ctx.command_path.split(" ", 1)[1:] if err.ctx is not None else []
    return "".join(f"{part} " for part in path)


def _print_error(line: str) -> None:
    sys.stderr.write(f"hvps: {printable(line)}\n")
    sys.stderr.flush()

"""Entry point: runs a command line, and turns each outcome into an exit code and each failure into a line.

The codes are those of :class:`~hvpsbridge.errors.ExitCode`; ``docs/exit-codes.md`` has the table. ``-vv``
shows tracebacks. The traceback of a bug is always written to a file, whose name is printed.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from hvpsbridge.cli import console
from hvpsbridge.cli.app import hvps
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.logs import printable, redact, tear_down
from hvpsbridge.cli.streams import ignore_broken_pipe
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.playbook.problems import PlaybookInvalid
from hvpsbridge.report.documents.run import run_report
from hvpsbridge.tasks.results import HostProblem, RunResult

logger = logging.getLogger(__name__)


def run() -> None:
    """The ``hvps`` program: runs the arguments of the process and exits."""
    ignore_broken_pipe()
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output is gone. Keeps the interpreter from failing again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def main(arguments: Sequence[str]) -> ExitCode:
    """Run a command line. Returns its exit code."""
    invocation = Invocation()
    try:
        with invocation:
            result = hvps.main(list(arguments), prog_name="hvps", standalone_mode=False, obj=invocation)
        return result if isinstance(result, ExitCode) else ExitCode.DONE
    except click.exceptions.Exit as done:
        return ExitCode(done.exit_code)
    except click.UsageError as err:
        _print_error(f"{err.format_message().rstrip('.')}; see `hvps {_command_path(err)}--help`")
        return ExitCode.USAGE
    except click.ClickException as err:
        _print_error(err.format_message())
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        _print_error("stopped by SIGINT")
        return ExitCode.INTERRUPTED
    except HvpsError as err:
        return _failed(err, invocation)
    except BrokenPipeError:
        return ExitCode.DONE
    except Exception as err:  # noqa: BLE001 - anything else is a bug
        return _bug(err, invocation)
    finally:
        tear_down()


def _failed(err: HvpsError, invocation: Invocation) -> ExitCode:
    logger.debug("command failed", exc_info=err)
    for line in err.lines() if isinstance(err, PlaybookInvalid) else (str(err),):
        _print_error(line)
    if invocation.as_json:
        # A script that reads standard output always finds a report there.
        seconds = (datetime.now(UTC) - invocation.started).total_seconds()
        result = RunResult(invocation.run_id, invocation.started, seconds, (), (HostProblem("", err),))
        report = run_report(result, name="hvps", check=False)
        console.document(report)
    return err.code


def _bug(err: Exception, invocation: Invocation) -> ExitCode:
    text = redact("".join(traceback.format_exception(err)))
    if invocation.verbosity >= 2:
        click.echo(text, err=True, nl=False)
    where = invocation.log_file
    if where is not None:
        logger.error("this is a bug in hvps", exc_info=err)
    else:
        descriptor, name = tempfile.mkstemp(prefix=f"hvps-bug-{invocation.run_id.hex[:8]}-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        where = Path(name)
    _print_error(f"this is a bug in hvps: {type(err).__name__}: {err}; please report it with {where}")
    return ExitCode.BUG


def _command_path(err: click.UsageError) -> str:
    path = err.ctx.command_path.split(" ", 1)[1:] if err.ctx is not None else []
    return "".join(f"{part} " for part in path)


def _print_error(line: str) -> None:
    sys.stderr.write(f"hvps: {printable(line)}\n")
    sys.stderr.flush()

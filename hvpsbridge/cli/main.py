"""Entry point: every outcome of a command becomes one exit code and, when it failed, one clear line.

The codes are those of :class:`~hvpsbridge.errors.ExitCode`; ``docs/exit-codes.md`` has the table. A
traceback is shown with ``-vv`` only; for a bug it is written to a file whose name is told.
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
from hvpsbridge.report.truth import run_report
from hvpsbridge.tasks.results import HostProblem, RunResult

logger = logging.getLogger(__name__)


def run() -> None:
    """The ``hvps`` command: does what the process's arguments say and ends the process."""
    ignore_broken_pipe()
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough. Keeps the interpreter from failing on it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def main(arguments: Sequence[str]) -> ExitCode:
    """Run one command line and give its exit code."""
    invocation = Invocation()
    try:
        with invocation:
            result = hvps.main(list(arguments), prog_name="hvps", standalone_mode=False, obj=invocation)
        return result if isinstance(result, ExitCode) else ExitCode.DONE
    except click.exceptions.Exit as done:
        return ExitCode(done.exit_code)
    except click.UsageError as err:
        _say(f"{err.format_message().rstrip('.')}; hvps {_command_path(err)}--help tells more")
        return ExitCode.USAGE
    except click.ClickException as err:
        _say(err.format_message())
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("stopped by SIGINT")
        return ExitCode.INTERRUPTED
    except HvpsError as err:
        return _failed(err, invocation)
    except BrokenPipeError:
        return ExitCode.DONE
    except Exception as err:  # noqa: BLE001 - the last line of defence; whatever comes here is a bug
        return _bug(err, invocation)
    finally:
        tear_down()


def _failed(err: HvpsError, invocation: Invocation) -> ExitCode:
    logger.debug("command failed", exc_info=err)
    for line in err.lines() if isinstance(err, PlaybookInvalid) else (str(err),):
        _say(line)
    if invocation.as_json:
        # A script that reads our output finds a report there whatever happened.
        seconds = (datetime.now(UTC) - invocation.started).total_seconds()
        result = RunResult(invocation.run_id, invocation.started, seconds, (), (HostProblem("", err),))
        report = run_report(result, name="hvps", check=False)
        console.document(report)
    return err.code


def _bug(err: Exception, invocation: Invocation) -> ExitCode:
    told = redact("".join(traceback.format_exception(err)))
    if invocation.verbosity >= 2:
        click.echo(told, err=True, nl=False)
    where = invocation.log_file
    if where is not None:
        logger.error("this is a bug in hvps", exc_info=err)
    else:
        descriptor, name = tempfile.mkstemp(prefix=f"hvps-bug-{invocation.run_id.hex[:8]}-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(told)
        where = Path(name)
    _say(f"this is a bug in hvps: {type(err).__name__}: {err}; please report it with {where}")
    return ExitCode.BUG


def _command_path(err: click.UsageError) -> str:
    path = err.ctx.command_path.split(" ", 1)[1:] if err.ctx is not None else []
    return "".join(f"{part} " for part in path)


def _say(line: str) -> None:
    sys.stderr.write(f"hvps: {printable(line)}\n")
    sys.stderr.flush()

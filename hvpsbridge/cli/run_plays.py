"""Runs plays for a command: handles signals, shows progress, prints the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hvpsbridge.cli import console
from hvpsbridge.cli.compose import shared_limits
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.run_output import OutputFormat, print_report
from hvpsbridge.cli.signals import interrupting, report_first
from hvpsbridge.errors import ConfigurationError, ExitCode
from hvpsbridge.report.documents.run import run_report
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.policy import RunLimits
from hvpsbridge.tasks.runner import Runner


def run_plays(
    invocation: Invocation,
    compose: Callable[[], Sequence[PlayRun]],
    *,
    name: str,
    forks: int,
    limits: RunLimits,
    check: bool,
    output: OutputFormat,
    quiet: bool,
) -> ExitCode:
    """Run plays and print the report. Returns the exit code.

    The first SIGINT, SIGTERM or SIGHUP stops the run and undoes what it has begun; the second one gives up
    the undo.

    Args:
        compose: gives the plays; opens repositories and reads secrets. A signal during that ends the command
            at once.
        name: name of the run, for the report.
        forks: maximum VMs at a time.
        limits: what the whole run may use.
    """
    with interrupting():
        plays = compose()
    cancel = Cancellation()
    with catch_signals(cancel, report_first), console.observer(quiet=quiet) as observer:
        runner = Runner(
            invocation.run_id, observer, cancel, forks=forks, check=check, shared=shared_limits(limits)
        )
        result = runner.run(plays)
    if not (result.tasks or result.problems or check or cancel.requested):
        raise ConfigurationError(name, "no VM was selected; check vms and --limit, and see hvps inventory")
    # The exit code of a signal takes precedence over all others.
    code = cancel.error.code if cancel.requested else None
    return print_report(run_report(result, name=name, check=check, exit_code=code), output)

"""The ``hvps`` command group and its global options."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from hvpsbridge import __version__
from hvpsbridge.cli.invocation import Invocation

# Each command with its line of help, in the order of use. Its module is imported when it is used, which keeps
# --version and --help fast.
COMMANDS = {
    "run": "Run a playbook.",
    "validate": "Check a playbook without connecting to anything.",
    "backup": "Back up VMs now, without a playbook.",
    "inventory": "List VMs and disks, and what prevents a backup.",
    "host": "Check hosts and clean them up.",
    "jea": "Write the files that make a JEA endpoint for hvps.",
    "repo": "Create repositories, test stores, free space.",
    "list": "List recovery points.",
    "show": "Show one recovery point.",
    "verify": "Verify recovery points, or the whole repository.",
    "check-age": "Check that the newest points are new enough, for monitoring.",
    "restore": "Restore disks of a point.",
    "serve": "Serve disks of a point over NBD.",
    "mount": "Mount disks of a point as files.",
    "files": "List and read single files of a point.",
    "diff": "Show what changed between two points.",
    "copy": "Copy recovery points into another repository.",
    "prune": "Remove the recovery points that no rule keeps.",
    "forget": "Remove recovery points by hand.",
    "tag": "Add tags to recovery points, and remove them.",
    "protect": "Protect recovery points from being removed.",
    "unprotect": "End the protection of recovery points.",
    "key": "Manage the keys of an encrypted repository.",
    "schema": "Print the JSON Schema of reports or playbooks.",
    "sim": "Run and control a simulated Hyper-V host.",
    "demo": "Back up and restore two simulated VMs.",
}


class LazyGroup(click.Group):
    """A group whose commands are looked up in :data:`COMMANDS`, in that order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of use, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; imports its module."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        commands = importlib.import_module(f"hvpsbridge.cli.{name}")
        # Functions end with an underscore, since ``list`` and ``copy`` would hide a builtin and a module.
        command: click.Command = getattr(commands, f"{name}_")
        _add_verbose(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands; imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _more_verbose(context: click.Context, parameter: click.Parameter, count: int) -> None:
    invocation = context.find_object(Invocation)
    if invocation is not None and count:
        invocation.more_verbose(count)


def _add_verbose(command: click.Command) -> None:
    """Accept ``-v`` after the name of the command, too."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _add_verbose(inner)
    elif not any(parameter.name == "more_verbose" for parameter in command.params):
        command.params.append(
            click.Option(
                ["-v", "--verbose", "more_verbose"],
                count=True,
                is_eager=True,
                expose_value=False,
                callback=_more_verbose,
                help="Log more; twice for debug output.",
            )
        )


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="hvps", message="%(prog)s %(version)s")
@click.option("--verbose", "-v", "verbosity", count=True, help="Log more; twice for debug output.")
@click.option(
    "--log-file", type=click.Path(dir_okay=False, path_type=Path), help="Append the log to this file."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Configuration file [default: HVPS_CONFIG, then ~/.config/hvps/config.yaml].",
)
@click.pass_obj
def hvps(invocation: Invocation, verbosity: int, log_file: Path | None, config: Path | None) -> None:
    """Agentless backup of Hyper-V virtual machines from Linux."""
    invocation.begin(verbosity=verbosity, log_file=log_file, config=config)

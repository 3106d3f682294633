"""``hvps backup``: one VM now, without a playbook."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli import compose
from hvpsbridge.cli.declared import OptionGroup
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    connection_options,
    host_name,
    host_spec,
    json_option,
    limit_options,
    repository_options,
    repository_spec,
    run_limits,
)
from hvpsbridge.cli.run_output import output_format
from hvpsbridge.cli.run_plays import run_plays
from hvpsbridge.errors import ExitCode
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.policy import BackupLimits, BackupOptions, DiskSelection, RunLimits, TuningOptions
from hvpsbridge.tasks.task import play_task

_OPTIONS = OptionGroup(
    BackupOptions,
    {
        "consistency": "--consistency",
        "on_unexpected_full": "--on-unexpected-full",
        "proof": "--proof",
        "force_compare": "--force-compare",
    },
)
_LIMITS = OptionGroup(
    BackupLimits,
    {
        "checkpoint_age": "--checkpoint-age",
        "free_space_floor": "--free-space-floor",
        "wait": "--wait",
    },
)
_DISKS = OptionGroup(DiskSelection, {"exclude": "--exclude-disk"})
_TUNING = OptionGroup(
    TuningOptions,
    {"readers": "--readers", "compression": "--compression", "block": "--block", "window": "--window"},
)
# VMs at a time, as in a playbook.
FORKS = 2


@click.command("backup")
@click.argument("host")
@click.argument("vms", metavar="VM...", nargs=-1, required=True)
@_OPTIONS
@_LIMITS
@_DISKS
@click.option("--check", is_flag=True, help="Show the mode of each disk and why, without changing anything.")
@_TUNING
@limit_options
@connection_options
@repository_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_obj
def backup_(
    invocation: Invocation,
    /,
    host: str,
    vms: tuple[str, ...],
    check: bool,
    forks: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> ExitCode:
    """Back up VMs of HOST, by name, id or shell pattern.

    HOST is a name in the configuration file, a host name (HTTPS, port 5986) or a URL.
    """
    task = BackupOptions(
        **_OPTIONS.given(options),
        limits=BackupLimits(**_LIMITS.given(options)),
        disks=DiskSelection(**_DISKS.given(options)),
        tuning=TuningOptions(**_TUNING.given(options)),
    )
    limits = run_limits(options, RunLimits())
    from_host = host_spec(host, options, invocation)
    into = repository_spec(options, invocation)

    def plays() -> tuple[PlayRun, ...]:
        return (
            PlayRun(
                name="backup",
                hosts=(compose.target(host_name(host, invocation), from_host, invocation),),
                repository=compose.repository(into, invocation),
                vms=VmSelection(include=vms),
                tasks=(play_task("backup", task),),
            ),
        )

    return run_plays(
        invocation,
        plays,
        name="backup",
        forks=forks or FORKS,
        limits=limits,
        check=check,
        output=output_format(as_json=as_json, as_lines=False),
        quiet=quiet,
    )

"""``hvps backup``: one VM now, without a playbook."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli import compose
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    connection_options,
    disk_patterns,
    host_name,
    host_spec,
    json_option,
    limit_options,
    repository_options,
    repository_spec,
    run_limits,
    seconds,
    size_bytes,
    tuning,
    tuning_options,
)
from hvpsbridge.cli.run_output import output_format
from hvpsbridge.cli.run_plays import work
from hvpsbridge.errors import ExitCode
from hvpsbridge.playbook.task_options import BackupLimits, BackupOptions, DiskSelection, RunLimits
from hvpsbridge.tasks.planning.select import VmChoice
from hvpsbridge.tasks.policy import ConsistencyPolicy, OnUnexpectedFull, ProofPolicy
from hvpsbridge.tasks.runner import PlayRun
from hvpsbridge.tasks.task import play_task

_DEFAULTS = BackupOptions()
# VMs worked on at a time, as in a playbook.
FORKS = 2


@click.command("backup", short_help="Back up VMs now, without a playbook.")
@click.argument("host")
@click.argument("vms", metavar="VM...", nargs=-1, required=True)
@click.option(
    "--consistency",
    type=click.Choice([wish.value for wish in ConsistencyPolicy]),
    default=_DEFAULTS.consistency.value,
    show_default=True,
    help="What the checkpoint shall be worth.",
)
@click.option(
    "--on-unexpected-full",
    type=click.Choice([what.value for what in OnUnexpectedFull]),
    default=_DEFAULTS.on_unexpected_full.value,
    show_default=True,
    help="When a disk with a base must be read or compared whole.",
)
@click.option(
    "--proof",
    type=click.Choice([policy.value for policy in ProofPolicy]),
    default=_DEFAULTS.proof.value,
    show_default=True,
    help="When a point is proved equal to the frozen disk first.",
)
@click.option("--force-compare", is_flag=True, help="Compare every disk, whatever tracking says.")
@click.option("--checkpoint-age", callback=seconds, metavar="DURATION", help="How old it may become.")
@click.option("--free-space-floor", callback=size_bytes, metavar="SIZE", help="Kept free on each volume.")
@click.option("--wait", callback=seconds, metavar="DURATION", help="For what passes, before exit 75.")
@click.option(
    "--exclude-disk",
    multiple=True,
    callback=disk_patterns,
    metavar="PATTERN",
    help="Leave out disks by where they hang (scsi 0:1) or by path (*\\scratch.vhdx).",
)
@click.option("--check", is_flag=True, help="Connect and plan, show mode and reason; change nothing.")
@tuning_options
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
    consistency: str,
    on_unexpected_full: str,
    proof: str,
    force_compare: bool,
    checkpoint_age: float | None,
    free_space_floor: int | None,
    wait: float | None,
    exclude_disk: tuple[str, ...],
    check: bool,
    forks: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> ExitCode:
    """Back up VMs of HOST, named or by id or shell pattern.

    HOST is a name in the configuration file, a bare host name (https, port 5986) or a URL.
    """
    limits = BackupLimits()
    wanted = BackupOptions(
        consistency=ConsistencyPolicy(consistency),
        on_unexpected_full=OnUnexpectedFull(on_unexpected_full),
        proof=ProofPolicy(proof),
        limits=BackupLimits(
            checkpoint_age=limits.checkpoint_age if checkpoint_age is None else checkpoint_age,
            free_space_floor=limits.free_space_floor if free_space_floor is None else free_space_floor,
            wait=limits.wait if wait is None else wait,
        ),
        disks=DiskSelection(exclude_disk),
        force_compare=force_compare,
        tuning=tuning(options),
    )
    most = run_limits(options, RunLimits())
    where = host_spec(host, options, invocation)
    into = repository_spec(options, invocation)

    def plays() -> tuple[PlayRun, ...]:
        return (
            PlayRun(
                name="backup",
                hosts=(compose.target(host_name(host, invocation), where, invocation),),
                repository=compose.repository(into, invocation),
                choice=VmChoice(include=vms),
                tasks=(play_task("backup", compose.backup_policy(wanted)),),
            ),
        )

    return work(
        invocation,
        plays,
        name="backup",
        forks=forks or FORKS,
        limits=most,
        check=check,
        output=output_format(as_json=as_json, as_lines=False),
        quiet=quiet,
    )

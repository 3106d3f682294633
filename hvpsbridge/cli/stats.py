"""``hvps repo stats``: what takes space in a repository, and how fast it grows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import moment_text
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.report.documents.stats import RepositoryStatsShown
from hvpsbridge.report.views import Table
from hvpsbridge.repository.points import SHORT_ID_DIGITS
from hvpsbridge.repository.stats import RepositoryStats, SpaceOf
from hvpsbridge.tasks.retention.prune import find_vms
from hvpsbridge.units import size_text

# A forecast beyond this says nothing.
MOST_DAYS = 3650


@click.command("stats", short_help="Show what takes space, and how fast it grows.")
@click.argument("vms", metavar="[VM]...", nargs=-1)
@repository_options
@json_option
@click.pass_obj
def stats(invocation: Invocation, /, vms: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Show what takes space in a repository, and how fast it grows.

    For each VM: what only it needs, which is freed when it is removed, and what it shares with others. For
    VMs that are named, also each point; that reads all of their trees.

    The time until the store is full assumes that every day adds what the last 30 days added, and that
    nothing is pruned. It needs a store that says how much space is left.
    """
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        named = find_vms(repository, vms) or frozenset()
        found = repository.stats(datetime.now(UTC), named)
    if as_json:
        console.document(RepositoryStatsShown(repository.repository_id, repository.url, found))
        return
    rows = tuple(
        (vm.vm, str(vm.space.points), *_space(vm.space), f"{size_text(vm.added_bytes_a_day)}/day")
        for vm in found.vms
    )
    columns = ("points", "disks", "only here", "shared", "ratio")
    console.table(Table("space", ("VM", *columns, "new"), rows))
    for vm in found.vms:
        if vm.of_points:
            of_points = tuple(
                (each.point_id.hex[:SHORT_ID_DIGITS], moment_text(each.created), *_space(each.space))
                for each in vm.of_points
            )
            console.table(Table(f"points of {vm.vm}", ("point", "created", *columns[1:]), of_points))
    _print_whole(found)


def _space(space: SpaceOf) -> tuple[str, ...]:
    sizes = (space.disk_bytes, space.unique_bytes, space.shared_bytes)
    return (*map(size_text, sizes), f"{space.ratio:.1f}")


def _print_whole(found: RepositoryStats) -> None:
    console.line(
        f"{size_text(found.stored_bytes)} in {found.packs} packs, of which points need "
        f"{size_text(found.needed_bytes)}; {size_text(found.added_bytes_a_day)} new a day"
    )
    if found.free_bytes is None:
        return
    days, text = found.full_in_days, f"{size_text(found.free_bytes)} free"
    if days is not None:
        text += f": full in {days:.0f} days" if days <= MOST_DAYS else f": full in more than {MOST_DAYS} days"
        text += ", if nothing is pruned"
    console.line(text)

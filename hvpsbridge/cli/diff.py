"""``hvps diff``: what changed between two recovery points. Needs no host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.files import shown
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.report.documents.files import diff_files, point_diff, stored_bytes
from hvpsbridge.repository import Point
from hvpsbridge.tasks.files.diff import ChangedVolume, diff
from hvpsbridge.units import size_text


@click.command("diff")
@click.argument("earlier")
@click.argument("later")
@repository_options
@json_option
@click.pass_obj
def diff_(invocation: Invocation, /, earlier: str, later: str, as_json: bool, **options: Any) -> ExitCode:
    """Show which partitions and files changed from the point EARLIER to the point LATER, and what that cost.

    Files are compared by kind, size, time, mode, owner and link target, where chunks changed. Exit 3 means
    that the files of some partition cannot be compared.
    """
    problems: list[str] = []

    def on_unreadable(err: HvpsError) -> None:
        problems.append(str(err))
        console.note(f"hvps: {err}")

    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        one, other = repository.catalog.find_point(earlier), repository.catalog.find_point(later)
        volumes = diff(repository, one, other, on_unreadable)
    if as_json:
        document = point_diff(one, other, volumes, tuple(problems))
        console.long_document(document, "files", [diff_files(volume) for volume in volumes])
    else:
        _print(other, volumes)
    incomplete = problems or any(volume.not_compared and volume.content for volume in volumes)
    return ExitCode.DEGRADED if incomplete else ExitCode.DONE


def _print(later: Point, volumes: Sequence[ChangedVolume]) -> None:
    for volume in volumes:
        note = f"; files not compared: {volume.not_compared}" if volume.not_compared else ""
        changed = f"{size_text(volume.changed_bytes)} in changed chunks, {len(volume.files)} files"
        console.line(f"{volume.volume} ({volume.content or 'unknown'}): {changed}{note}")
    changed_bytes = sum(volume.changed_bytes for volume in volumes)
    console.line(
        f"{size_text(changed_bytes)} in changed chunks; "
        f"the later point added {size_text(stored_bytes(later))} to the repository"
    )
    for volume in volumes:
        for each in volume.files:
            console.line(f"{each.change.value:>8} {each.size_bytes:>14} {volume.volume} {shown(each.path)}")

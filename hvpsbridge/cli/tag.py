"""``hvps tag``: add tags to recovery points, and remove them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.declared import callback_of
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import tags_text
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode, UsageError
from hvpsbridge.formats.retention.rules import parse_tags
from hvpsbridge.report.documents.points import PointsTagged, TaggedPoint
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Point
from hvpsbridge.repository.pruning import Pruner


def _tags(values: tuple[str, ...]) -> tuple[str, ...]:
    """The tags of ``--add`` and ``--remove``."""
    return tuple(dict.fromkeys(tag for value in values for tag in parse_tags(value).split(",")))


_TAGS = callback_of(_tags)


@click.command("tag")
@click.argument("points", metavar="POINT...", nargs=-1, required=True)
@click.option(
    "--add", multiple=True, callback=_TAGS, metavar="TAG[,TAG...]", help="Add this tag; repeatable."
)
@click.option(
    "--remove",
    multiple=True,
    callback=_TAGS,
    metavar="TAG[,TAG...]",
    help="Remove this tag; repeatable.",
)
@repository_options
@json_option
@click.pass_obj
def tag_(
    invocation: Invocation,
    /,
    points: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Add tags to recovery points, and remove them. `hvps prune --keep-tag TAG` keeps points with a tag."""
    if not add and not remove:
        raise UsageError("hvps tag needs --add or --remove")
    if both := set(add) & set(remove):
        raise UsageError(f"tag {', '.join(sorted(both))} cannot be added and removed at once")
    return change_points(
        invocation,
        points,
        options,
        lambda pruner, point: pruner.tag(point, add=add, remove=remove),
        as_json=as_json,
    )


def change_points(
    invocation: Invocation,
    selectors: tuple[str, ...],
    options: dict[str, Any],
    change: Callable[[Pruner, Point], None],
    *,
    as_json: bool,
) -> ExitCode:
    """Change what is said about points, and print it. All points are found before any is changed."""
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        pruner = repository.pruner
        chosen = {point.point_id: point for point in map(repository.catalog.find_point, selectors)}
        for point in chosen.values():
            change(pruner, point)
        states = repository.catalog.states.read()
    found = [(point, states.tags_of(point.manifest)) for point in chosen.values()]
    if as_json:
        tagged = (
            TaggedPoint(point.point_id, point.vm_name, point.vm_id, tuple(sorted(tags.tags)), tags.protected)
            for point, tags in found
        )
        console.document(PointsTagged(tuple(tagged)))
        return ExitCode.DONE
    rows = tuple((point.vm_name, point.short_id, tags_text(tags) or "none") for point, tags in found)
    console.table(Table("points", ("VM", "point", "tags"), rows))
    return ExitCode.DONE

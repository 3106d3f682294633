"""Selects plays and tasks of a playbook by tag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hvpsbridge.errors import UsageError
from hvpsbridge.playbook.problems import nearest
from hvpsbridge.playbook.specs import PlaybookSpec, PlaySpec


def tag_words(options: Iterable[str]) -> tuple[str, ...]:
    """Tags of ``--tags`` options; each may contain several, separated by commas."""
    return tuple(word for option in options for word in option.split(",") if word)


def tagged(playbook: PlaybookSpec, tags: Sequence[str]) -> PlaybookSpec:
    """The playbook with only those tasks that have one of ``tags``, or whose play has.

    Raises:
        UsageError: a tag does not occur in the playbook, which is probably a typo.
    """
    if not tags:
        return playbook
    known = {tag for play in playbook.plays for task in play.tasks for tag in (*play.tags, *task.tags)}
    for tag in tags:
        if tag not in known:
            raise UsageError(f"--tags {tag}: no play or task has this tag{nearest(tag, known)}")
    plays = (_tagged_play(play, frozenset(tags)) for play in playbook.plays)
    return replace(playbook, plays=tuple(play for play in plays if play.tasks))


def _tagged_play(play: PlaySpec, tags: frozenset[str]) -> PlaySpec:
    if tags & set(play.tags):
        return play
    return replace(play, tasks=tuple(task for task in play.tasks if tags & set(task.tags)))

"""What of a playbook a command line wants: plays and tasks by tag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hvpsbridge.errors import UsageError
from hvpsbridge.playbook.problems import nearest
from hvpsbridge.playbook.specs import PlaybookSpec, PlaySpec


def tag_words(options: Iterable[str]) -> tuple[str, ...]:
    """Tags of ``--tags`` options, each of which may hold several with commas between."""
    return tuple(word for option in options for word in option.split(",") if word)


def tagged(playbook: PlaybookSpec, tags: Sequence[str]) -> PlaybookSpec:
    """The playbook with only the tasks that carry one of ``tags``, from themselves or their play.

    Raises:
        UsageError: a tag stands nowhere in the playbook, which is a slip of the pen.
    """
    if not tags:
        return playbook
    known = {tag for play in playbook.plays for task in play.tasks for tag in (*play.tags, *task.tags)}
    for tag in tags:
        if tag not in known:
            raise UsageError(f"--tags {tag}: nothing in the playbook has this tag{nearest(tag, known)}")
    plays = (_tagged_play(play, frozenset(tags)) for play in playbook.plays)
    return replace(playbook, plays=tuple(play for play in plays if play.tasks))


def _tagged_play(play: PlaySpec, tags: frozenset[str]) -> PlaySpec:
    if tags & set(play.tags):
        return play
    return replace(play, tasks=tuple(task for task in play.tasks if tags & set(task.tags)))

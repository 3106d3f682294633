from __future__ import annotations

import pytest

from hvpsbridge.errors import UsageError
from hvpsbridge.playbook.choose import tag_words, tagged
from hvpsbridge.playbook.read import parse_playbook

PLAYBOOK = parse_playbook(
    """\
version: 1
name: p
hosts: {h: {address: h}}
repositories: {r: {url: /r}}
plays:
  - {name: one, tags: [sql], hosts: [h], repository: r, tasks: [backup, {verify: {}, tags: [deep]}]}
  - {name: two, hosts: [h], repository: r, tasks: [{backup: {}, tags: [night]}, {verify: {}, tags: [deep]}]}
""",
    "p.yaml",
)


def _chosen(*tags: str) -> list[tuple[str, list[str]]]:
    return [(play.name, [task.kind for task in play.tasks]) for play in tagged(PLAYBOOK, tags).plays]


def test_without_tags_everything_is_chosen() -> None:
    assert tagged(PLAYBOOK, ()) is PLAYBOOK


def test_a_play_s_tag_chooses_all_of_its_tasks_and_a_task_s_only_itself() -> None:
    assert _chosen("sql") == [("one", ["backup", "verify"])]
    assert _chosen("deep") == [("one", ["verify"]), ("two", ["verify"])]
    assert _chosen("sql", "night") == [("one", ["backup", "verify"]), ("two", ["backup"])]


def test_an_unknown_tag_is_a_usage_error_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'night'"):
        tagged(PLAYBOOK, ["nigth"])


def test_tags_may_stand_in_one_option_with_commas() -> None:
    assert tag_words(("a,b", "c", "")) == ("a", "b", "c")

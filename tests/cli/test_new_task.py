"""A new task kind is one module (``toy_task``) and one line in ``TASKS``; all that users see derives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvpsbridge.tasks.registry import TASKS
from tests.playbook.reference import tables

from .conftest import Hvps, Served
from .world import World


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "count", "tests.cli.toy_task")


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01")
    return made


def test_the_schemas_have_it(hvps: Hvps) -> None:
    playbook = json.loads(hvps("schema", "playbook").out)["$defs"]
    assert playbook["TaskSpec"]["properties"]["count"]["description"] == "count recovery points"
    expected = playbook["CountOptions"]["properties"]["expected"]
    assert (expected["type"], expected["default"], expected["minimum"]) == ("integer", 1, 0)
    report = json.loads(hvps("schema", "report").out)["run"]["$defs"]
    assert "count" in report["TaskReport"]["properties"]
    assert report["Count"]["properties"]["points"] == {"type": "integer"}


def test_the_tables_of_keys_have_it() -> None:
    text = tables()
    assert "| `count` | [the task count](#the-task-count) |  | count recovery points |" in text
    assert "## The task count\n\nTask `count`: count recovery points of the selected VMs.\n" in text
    assert "| `expected` | whole number | `1` | number of points that is enough |" in text


def test_a_playbook_runs_it_and_shows_it(world: World) -> None:
    tasks = "[backup, count, {name: more, count: {expected: 2}}]"
    ran = world.run("--json", "-q", tasks=tasks)
    assert ran.code == 0, ran.err
    _, first, second = json.loads(ran.out)["tasks"]
    assert first["count"] == {"points": 1, "enough": True}
    assert second["count"] == {"points": 1, "enough": False}
    assert first["backup"] is None
    assert "web01 count: there are too few points" in ran.err
    shown = world.run("-q", tasks="[count]")
    assert "POINTS COUNTED\nhost  VM     points\nhv01  web01       1\n" in shown.out


def test_its_mistakes_have_their_places(world: World, hvps: Hvps) -> None:
    path = world.playbook(tasks="[{count: {expected: -1}}, {count: {expecte: 1}}, {count: , backup: }]")
    wrong = hvps("validate", path)
    assert wrong.code == 5
    assert "plays[0].tasks[0].count.expected: " in wrong.err
    assert "unknown key; did you mean 'expected'?" in wrong.err
    assert (
        "specify exactly one of backup, verify, restore, restore_drill, prune, collect, count; found 2"
        in wrong.err
    )

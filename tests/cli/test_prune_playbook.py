"""The tasks ``prune`` and ``collect`` of playbooks, on points that backups made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Done, Hvps, Served
from .schemas import assert_valid
from .world import World

TASKS = "[backup, {prune: {keep_last: 1}}, {collect: {grace: 0s}}]"


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01", "db01")
    return made


def report_of(done: Done) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(done.out)
    assert_valid("run", report)
    return report


def test_a_night_backs_up_prunes_and_collects(world: World) -> None:
    for _ in range(3):
        world.guest_writes("web01")
        world.guest_writes("db01")
        done = world.run("--json", "-q", tasks=TASKS, vms="['*']")
        assert done.code == 0, done.err
    tasks = report_of(done)["tasks"]
    assert sorted(task["task"] for task in tasks) == ["backup", "backup", "collect", "prune"]
    prune, collect = tasks[-2:]
    assert (prune["host"], prune["vm"], prune["vm_id"], prune["outcome"]) == ("", "", None, "done")
    assert {vm["vm"]: (vm["kept"], vm["removed"]) for vm in prune["prune"]["vms"]} == {
        "web01": (1, 1),
        "db01": (1, 1),
    }
    assert collect["collect"]["deleted_points"] == 2
    # The next increment still has its base.
    modes = {(disk["mode"], disk["reason"]) for point in world.points() for disk in point["disks"]}
    assert {mode for mode, _ in modes} == {"incremental"}, modes
    assert world.assert_every_point_restores_equal() == 2
    world.assert_clean()


def test_a_check_shows_the_plan_and_changes_nothing(world: World) -> None:
    for _ in range(2):
        assert world.run("-q").code == 0
        world.guest_writes()
    before = world.snapshot()
    done = world.run("--check", "-q", tasks=TASKS)
    assert done.code == 0, done.err
    assert "RETENTION" in done.out
    assert "no rule keeps it" in done.out
    assert "SPACE" in done.out
    assert world.snapshot() == before
    tasks = report_of(world.run("--check", "-q", "--json", tasks=TASKS))["tasks"]
    assert [task["outcome"] for task in tasks] == ["planned"] * 3


def test_what_is_out_of_line_is_8_and_the_collect_goes_on(world: World) -> None:
    for _ in range(4):
        assert world.run("-q").code == 0
        world.guest_writes()
    check = world.run("--check", "-q", "--json", tasks=TASKS)
    assert check.code == 8
    assert [task["outcome"] for task in report_of(check)["tasks"]] == ["planned"] * 3
    done = world.run("-q", "--json", tasks="[{prune: {keep_last: 1}}, collect]")
    assert done.code == 8
    prune, collect = report_of(done)["tasks"]
    assert [entry["kind"] for entry in prune["conditions"]] == ["PruneOutOfLine"]
    assert "3 of 4 points of VM web01" in done.err
    assert collect["outcome"] == "done"
    assert len(world.points()) == 4


def test_a_play_of_its_own_names_another_entry_of_the_repository(world: World, tmp_path: Path) -> None:
    for _ in range(2):
        assert world.run("-q").code == 0
        world.guest_writes()
    playbook = tmp_path / "prune.yaml"
    # No password of the host: it is not connected to.
    playbook.write_text(
        f"""\
version: 1
name: prune
hosts: {{hv01: {{address: hv01.example.net}}}}
repositories: {{pruner: {{url: "file://{world.repository}"}}}}
plays:
  - name: retention
    hosts: [hv01]
    repository: pruner
    tasks: [{{prune: {{keep_daily: 1}}}}, collect]
"""
    )
    done = world.hvps("run", playbook)
    assert done.code == 0, done.err
    assert "POINTS THAT NO RULE KEEPS" in done.out
    assert "prune: 1 removed, 1 kept" in done.err
    assert len(world.points()) == 1
    # Without a VM there is nothing to prune; a collect concerns the whole repository.
    none = report_of(world.hvps("run", playbook, "--limit", "nobody*", "--json", "-q"))
    assert [task["task"] for task in none["tasks"]] == ["collect"]


def test_mistakes_have_their_places(world: World, hvps: Hvps) -> None:
    tasks = "[{prune: {}}, {collect: {max_unused: 5}}, {prune: {keep_last: 1, time_zone: Mars}}]"
    wrong = hvps("validate", world.playbook(tasks=tasks))
    assert wrong.code == 5
    assert "plays[0].tasks[0].prune: no retention rule is set" in wrong.err
    assert "plays[0].tasks[1].collect.max_unused: must be text, for example 5%" in wrong.err
    assert "plays[0].tasks[2].prune.time_zone: " in wrong.err
    late = hvps("validate", world.playbook(tasks="[{prune: {keep_last: 1}}, backup]"))
    assert late.code == 5
    assert "plays[0].tasks[1].backup: must come before prune, which is done once" in late.err

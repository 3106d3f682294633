"""``hvps run`` when it has to wait, and without disks that prevent a backup."""

from __future__ import annotations

import json

import pytest

from hvpsbridge.sim.control import Control
from tests.waiting import wait_until

from .conftest import Hvps, Served, in_process
from .world import World

WAIT = "[{{backup: {{limits: {{wait: {0}}}}}}}]"


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: object) -> World:
    made = World(hvps, served, tmp_path)  # type: ignore[arg-type]
    made.build("web01")
    return made


def foreign(world: World) -> str:
    made = world.sim("checkpoint", world.vm, "other product", "--recovery", "--json")
    return str(made["checkpoint_id"])


@pytest.mark.parametrize("gate", ["another product's recovery checkpoint", "it is paused"])
def test_what_does_not_pass_in_time_is_75_and_the_host_is_as_it_was(world: World, gate: str) -> None:
    if gate == "it is paused":
        world.sim("state", world.vm, "pause")
    else:
        foreign(world)
    before = world.on_host()
    done = world.run("--json", tasks=WAIT.format("1s"))
    assert done.code == 75, done.err
    (task,) = json.loads(done.out)["tasks"]
    assert (task["outcome"], task["exit_code"]) == ("skipped", 75)
    assert task["conditions"][0]["kind"] == "Gated"
    assert gate in task["conditions"][0]["text"]
    assert task["backup"]["leftovers"] == []
    assert world.on_host() == before
    assert world.points() == []


def test_what_passes_in_time_is_waited_for_and_backed_up(world: World) -> None:
    assert world.run().code == 0
    world.guest_writes()
    checkpoint = foreign(world)
    running = in_process("run", str(world.playbook(tasks=WAIT.format("5m"))), "--json")
    try:
        assert running.stderr is not None
        for line in running.stderr:
            if "waiting: another product's recovery checkpoint" in line:
                break
        assert running.poll() is None
        world.sim("remove", checkpoint)
        said, complained = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 0, complained
    assert json.loads(said)["tasks"][0]["backup"]["disks"][0]["mode"] == "incremental"
    wait_until(lambda: not world.on_host()["checkpoints"])
    world.assert_clean()
    assert world.assert_every_point_restores_equal() == 2


def test_a_vm_with_a_physical_disk_is_backed_up_without_it(world: World, hvps: Hvps) -> None:
    with Control(world.served.folder) as control:
        control.add_pass_through(world.vm, "scsi0:1", 2)
    refused = world.run("--json")
    assert refused.code == 2
    tasks = '[{backup: {disks: {exclude: ["scsi 0:1"]}}}]'
    planned = world.run("--check", tasks=tasks)
    assert planned.code == 0, planned.err
    assert "scsi 0:1 (physical disk) is excluded by 'scsi 0:1'" in planned.err
    done = world.run("--json", tasks=tasks)
    assert done.code == 0, done.err
    assert json.loads(done.out)["tasks"][0]["backup"]["excluded"][0]["slot"] == "scsi 0:1"
    shown = hvps("show", world.vm, "--repo", world.repository)
    assert "LEFT OUT" in shown.out
    assert "physical disk" in shown.out
    assert world.points()[0]["excluded"][0]["pattern"] == "scsi 0:1"
    assert world.assert_every_point_restores_equal() == 1
    restored = hvps(
        "restore", world.vm, "--repo", world.repository, "--to", f"raw:{world.folder / 'out'}", "-q"
    )
    assert restored.code == 0
    assert "disk scsi 0:1 (physical disk) was left out of this point" in restored.err
    again = hvps(
        *("backup", world.served.url, world.vm, "--repo", world.repository, "--exclude-disk", "scsi 0:1"),
        *world.served.connection,
    )
    assert again.code == 0, again.err


def test_a_pattern_that_fits_no_disk_is_refused_before_anything_is_asked(world: World, hvps: Hvps) -> None:
    done = world.run(tasks='[{backup: {disks: {exclude: ["data.vhdx"]}}}]')
    assert done.code == 5
    assert "use for example 'scsi 0:1'" in done.err
    backup = hvps("backup", world.served.url, world.vm, "--exclude-disk", "1", *world.served.connection)
    assert backup.code == 64

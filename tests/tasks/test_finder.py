"""Finding the VMs of a play: by name or pattern, on its hosts or in its repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvpsbridge.errors import (
    ExitCode,
    VmMissing,
    VmOnSeveralHosts,
)
from hvpsbridge.sim.model.state import VMState
from hvpsbridge.tasks import listing
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.results import Outcome
from hvpsbridge.tasks.task import play_task
from hvpsbridge.tasks.verify_options import Points, VerifyOptions
from hvpsbridge.units import MIB
from tests.tasks.plays import BACKUP, VERIFY, play, run, unreachable
from tests.tasks.world import World


def test_a_name_that_is_not_there_is_a_problem_of_the_host(world: World, tmp_path: Path) -> None:
    world.vm("web", disks=(1 * MIB,))
    result = run(play(world, tmp_path, vms=VmSelection(("web", "gone"))))
    assert isinstance(result.problems[0].error, VmMissing)
    assert result.exit_code is ExitCode.INVALID
    assert result.tasks[0].outcome is Outcome.DONE


def test_a_renamed_vm_is_found_by_its_old_name_and_the_new_one_is_named(world: World, tmp_path: Path) -> None:
    vm_id = world.vm("db01", disks=(1 * MIB,))
    world.good_backup(vm_id)
    world.model.setup.change_vm(vm_id, name="db02")
    result = run(play(world, tmp_path, vms=VmSelection(("db01",)), tasks=(BACKUP,)))
    assert [(task.vm.name, task.outcome) for task in result.tasks] == [("db02", Outcome.DONE)]
    (problem,) = result.problems
    assert (
        str(problem.error) == "VM 'db01' on HV01 is now called 'db02'; use the new name, or the id of the VM"
    )
    assert result.exit_code is ExitCode.DEGRADED
    limited = run(play(world, tmp_path, tasks=(BACKUP,), limit=("db01",)))
    assert [task.vm.name for task in limited.tasks] == ["db02"]
    assert limited.exit_code is ExitCode.DONE


def test_verify_and_restore_need_no_host(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(1 * MIB,))
    world.good_backup(vm_id)
    hosts = (HostTarget("HV01", unreachable),)  # type: ignore[arg-type]
    result = run(
        play(
            world,
            tmp_path,
            hosts=hosts,
            tasks=(VERIFY, play_task("verify", VerifyOptions(points=Points.ALL))),
        )
    )
    assert [task.outcome for task in result.tasks] == [Outcome.DONE] * 2


def test_off_vms_are_backed_up_and_states_choose(world: World, tmp_path: Path) -> None:
    world.vm("off", disks=(1 * MIB,), state=VMState.Off)
    result = run(play(world, tmp_path, tasks=(BACKUP,)))
    assert result.tasks[0].outcome is Outcome.DONE


def test_a_host_of_a_later_play_does_not_take_a_vm_over(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LIST_AGAIN_SECONDS", (0.0,))
    vm_id = world.vm(disks=(1 * MIB,))
    other = World(tmp_path / "other")
    other.model.setup.add_node("HV02")
    other.vm(vm_id=vm_id, disks=(1 * MIB,), node="HV02")
    first = play(world, tmp_path, tasks=(BACKUP,))
    evil = HostTarget("HV02", lambda: other.host("HV02"))  # type: ignore[arg-type,return-value]
    result = run(first, play(world, tmp_path, hosts=(evil,), tasks=(BACKUP,)))
    other.close()
    assert [(task.vm.host, task.outcome) for task in result.tasks] == [("HV01", Outcome.DONE)]
    (problem,) = result.problems
    assert isinstance(problem.error, VmOnSeveralHosts)
    assert result.exit_code is ExitCode.VM_FAILED


def test_a_vm_of_which_no_point_can_be_read_is_damage(world: World, tmp_path: Path) -> None:
    """Without hosts the repository says which VMs there are; this one would be left out in silence."""
    for name in ("a", "b"):
        world.vm(name, disks=(1 * MIB,))
    assert run(play(world, tmp_path, tasks=(BACKUP,))).exit_code is ExitCode.DONE
    (lost,) = (point for point in world.repository.catalog.points() if point.vm_name == "b")
    manifest = world.store / "points" / lost.point_id.hex
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes()[:-1])
    world.reopen()
    result = run(play(world, tmp_path, repository=world.repository, tasks=(VERIFY,)))
    assert [task.vm.name for task in result.tasks] == ["a"]
    assert result.exit_code is ExitCode.DAMAGE
    assert str(lost.vm_id) in str(result.problems[0].error)

"""Restore drills: a VM beside the original, started, watched, and removed, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from hvpsbridge.errors import ExitCode, Interrupted, OperationFailed, VmDoesNotRun, VmNoHeartbeat
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.restoring import HostRestore
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import VMState
from hvpsbridge.tasks.cleanup.restores import RestoreJournal, open_restores, sweep_restores
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.hosts import Hosts, HostTarget
from hvpsbridge.tasks.planning.claims import Candidate
from hvpsbridge.tasks.planning.drills import drill_name, is_drill
from hvpsbridge.tasks.planning.select import VmSelection, choose_vms
from hvpsbridge.tasks.restore import onto_host
from hvpsbridge.tasks.restore.drill import DrillOptions, drill
from hvpsbridge.tasks.restore.results import RestoreResult
from hvpsbridge.tasks.task import TaskContext
from tests.connections import basic
from tests.tasks.test_restore_kills import Killer
from tests.tasks.world import Died, World

QUICK = DrillOptions(path="C:\\Drills", wait=0.2)


@pytest.fixture(params=["builtin", "powershell"])
def either(request: pytest.FixtureRequest, world: World) -> Iterator[TaskContext]:
    """What a drill of a VM with a point works with, by each engine."""
    if request.param == "powershell":
        request.getfixturevalue("pwsh")
    yield from _context(world, request.param)


@pytest.fixture
def context(world: World) -> Iterator[TaskContext]:
    """The same, by the engine that is Python."""
    yield from _context(world, "builtin")


def _context(world: World, engine: str) -> Iterator[TaskContext]:
    vm_id = world.vm()
    world.good_backup(vm_id)
    with SimulatedHost(world.model, engine=engine) as served:
        target = HostTarget(
            "HV01", lambda: HyperVHost.connect(basic(served.url, "HV01", operation_timeout=5))
        )
        yield replace(world.context(VmRef("HV01", vm_id, "web")), hosts=Hosts([target]))


def states(world: World) -> list[VMState]:
    return [vm.state for vm in world.model.vms.all()]


def assert_nothing_is_left(world: World) -> None:
    assert states(world) == [VMState.Running]
    assert world.model.host_files.made() == ()
    assert not list(open_restores(world.repository, "HV01"))


def levels(world: World, result: RestoreResult) -> set[str]:
    """Levels of proofs of the point."""
    (point,) = (point for point in world.repository.catalog.points() if point.point_id == result.point_id)
    return {later.proof.level for later in world.repository.catalog.proofs.of(point)}


def test_a_vm_that_starts_is_proven_and_removed(world: World, either: TaskContext) -> None:
    seen: list[tuple[str, str, VMState, object]] = []
    heartbeat = HostRestore.heartbeat

    def look(host: HostRestore, vm_id: UUID) -> object:
        vm = world.model.vms.get(vm_id)
        seen.append((vm.name, vm.notes, vm.state, vm.hardware["vm"]["AutomaticStartAction"]))
        return heartbeat(host, vm_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostRestore, "heartbeat", look)
        result = drill(either, QUICK)
    assert (result.error, result.conditions, result.task) == (None, (), "restore_drill")
    assert "showed a heartbeat" in result.notes[0]
    ((name, notes, state, start),) = seen
    assert is_drill(name)
    assert name.endswith(" web")
    # Microsoft.HyperV.PowerShell.StartAction.Nothing
    assert (notes.startswith("hvps restore "), state, start) == (True, VMState.Running, 2)
    assert "restored" in levels(world, result)
    assert_nothing_is_left(world)


@pytest.mark.parametrize(
    ("knob", "value", "kind"),
    [("heartbeat_seconds", 1e9, VmNoHeartbeat), ("guest_stops", True, VmDoesNotRun)],
)
def test_a_vm_that_does_not_start_is_reported_and_removed(
    world: World, either: TaskContext, knob: str, value: object, kind: type[Exception]
) -> None:
    world.model.set_knob(knob, value)
    result = drill(either, QUICK)
    (problem,) = result.conditions
    assert isinstance(problem, kind)
    assert (result.error, result.exit_code) == (None, ExitCode.VM_FAILED)
    assert "restored" not in levels(world, result)
    assert_nothing_is_left(world)


def test_a_heartbeat_may_come_late(world: World, context: TaskContext) -> None:
    world.model.set_knob("heartbeat_seconds", 0.3)
    result = drill(context, replace(QUICK, wait=60.0))
    assert (result.error, result.conditions) == (None, ())
    assert_nothing_is_left(world)


@pytest.mark.parametrize("call", ["Start-VM", "Get-VM"])
def test_a_host_that_fails_is_reported_and_the_vm_removed(
    world: World, context: TaskContext, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    start = HostRestore.start_vm

    def failing(host: HostRestore, vm_id: UUID) -> object:
        world.model.faults.arm_call(call, error="failed")
        return start(host, vm_id)

    monkeypatch.setattr(HostRestore, "start_vm", failing)
    result = drill(context, QUICK)
    assert result.error is None
    assert isinstance(result.conditions[0], OperationFailed)
    assert_nothing_is_left(world)


def test_a_drill_that_is_stopped_leaves_nothing(
    world: World, context: TaskContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.model.set_knob("heartbeat_seconds", 1e9)
    heartbeat = HostRestore.heartbeat

    def stop(host: HostRestore, vm_id: UUID) -> object:
        context.cancel.request("SIGTERM")
        return heartbeat(host, vm_id)

    monkeypatch.setattr(HostRestore, "heartbeat", stop)
    result = drill(context, replace(QUICK, wait=3600.0))
    assert isinstance(result.error, Interrupted)
    assert_nothing_is_left(world)


def test_what_cannot_be_removed_is_swept(world: World, context: TaskContext) -> None:
    world.model.faults.arm_call("Remove-VM", 1000, error="failed")
    result = drill(context, QUICK)
    assert isinstance(result.error, OperationFailed)
    world.model.faults.clear()
    with context.hosts.connect_to("HV01") as host:  # type: ignore[union-attr] - it is there
        assert sweep_restores(host, world.repository, "HV01").left == ()
    assert_nothing_is_left(world)


def test_a_drill_that_is_killed_anywhere_is_swept(world: World, context: TaskContext) -> None:
    def killed(at: int) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            journals: list[RestoreJournal] = []

            def kept(*given: Any) -> RestoreJournal:
                journals.append(RestoreJournal(*given))
                return journals[-1]

            patch.setattr(onto_host, "RestoreJournal", kept)
            killer = Killer(at, patch)
            with suppress(Died):
                drill(replace(context, run_id=UUID(int=at + 2)), QUICK)
            for journal in journals:
                # The lease of a process that is gone.
                journal.release()
            return killer.names

    steps = killed(-1)
    assert {"after Start-HvpsVm", "before Get-HvpsHeartbeat", "after Remove-HvpsVm"} <= set(steps)
    for at in range(len(steps)):
        killed(at)
        with context.hosts.connect_to("HV01") as host:  # type: ignore[union-attr] - it is there
            assert sweep_restores(host, world.repository, "HV01").left == (), steps[at]
        assert_nothing_is_left(world)


def test_no_selection_takes_the_vm_of_a_drill() -> None:
    name = drill_name(UUID(int=1), "web" * 100)
    assert len(name) == 100
    vms = [Candidate(UUID(int=1), "web", "HV01"), Candidate(UUID(int=2), name, "HV01")]
    choose: Callable[[str], tuple[str, ...]] = lambda pattern: tuple(  # noqa: E731 - three uses
        vm.name for vm in choose_vms(vms, VmSelection(include=(pattern,)), "HV01")[0]
    )
    assert choose("*") == ("web",)
    assert choose("hvps drill *") == ()
    assert choose(str(UUID(int=2))) == ()
    assert not is_drill("hvps drill of mine")

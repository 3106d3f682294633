"""Restoring into a VM of a cluster: its role goes offline, and comes back only if it was online."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ConfigurationError, HostError, OperationFailed
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.model import HyperVError, VMState
from hvpsbridge.sim.model.enums import ResourceState
from hvpsbridge.sim.model.knobs import HOSTILE_TO_RESTORES
from hvpsbridge.tasks.restore.in_place_disk import HostDisk
from hvpsbridge.tasks.restore.in_place_ledger import open_in_place
from hvpsbridge.tasks.restore.open_on_host import check_restores
from hvpsbridge.tasks.restore.undo import forget_in_place
from tests.tasks.test_restore_in_place import content, replaced, switch_off, undo
from tests.tasks.world import SIZE, SLOT, Died, World


@pytest.fixture
def vm_id(world: World) -> UUID:
    """A clustered VM that is off, with one point and other content since."""
    world.model.nodes.get("HV01").cluster = "one"
    vm_id = world.vm(clustered=True)
    world.good_backup(vm_id)
    world.model.guests.write(vm_id, SLOT, 0, b"later" * 20_480)
    return vm_id


def point_of(world: World, vm_id: UUID) -> bytes:
    (point,) = world.repository.catalog.points(vm_id)
    assert point.manifest.checkpoint_id is not None
    return world.model.golden.at_checkpoint(point.manifest.checkpoint_id, SLOT).read_bytes()


def role(world: World, vm_id: UUID) -> ResourceState:
    return world.model.clusters.role(vm_id).state


def shows_online(world: World, vm_id: UUID) -> None:
    """The VM is off, which the cluster has not noticed."""
    world.model.set_knob("role_notices_seconds", 1e6)
    switch_off(world, vm_id)
    assert role(world, vm_id) is ResourceState.Online


def test_a_role_that_is_offline_stays_offline(world: World, host: HyperVHost, vm_id: UUID) -> None:
    assert "the VM is running; shut it down first" in str(replaced(world, host, vm_id).error)
    assert role(world, vm_id) is ResourceState.Online
    switch_off(world, vm_id)
    result = replaced(world, host, vm_id)
    assert result.error is None, result.error
    assert "VM web holds the point; it is off" in result.notes
    assert role(world, vm_id) is ResourceState.Offline
    assert world.model.vms.get(vm_id).state is VMState.Off
    assert content(world, vm_id) == point_of(world, vm_id)


def test_a_role_that_was_online_comes_back(world: World, host: HyperVHost, vm_id: UUID) -> None:
    world.model.set_knob("role_seconds", 0.2)
    shows_online(world, vm_id)
    was = content(world, vm_id)
    result = replaced(world, host, vm_id)
    assert result.error is None, result.error
    assert "cluster resource Virtual Machine web is online again, as before" in result.notes
    assert not any("it is off" in note for note in result.notes)
    assert world.model.vms.get(vm_id).state is VMState.Running
    assert content(world, vm_id) == point_of(world, vm_id)
    (kept,) = open_in_place(world.repository, "HV01")
    assert (kept.kept, kept.restore.role) == (True, "")
    switch_off(world, vm_id)
    lines = undo(world, host, vm_id)
    assert "cluster resource Virtual Machine web is online again, as before" in lines
    assert content(world, vm_id) == was
    assert world.model.vms.get(vm_id).state is VMState.Running


def test_a_restore_that_was_killed_says_that_the_role_is_offline(
    world: World, builtin: HyperVHost, vm_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows_online(world, vm_id)
    with monkeypatch.context() as patch:
        patch.setattr(HostDisk, "write", lambda disk, source: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            replaced(world, builtin, vm_id)
    assert role(world, vm_id) is ResourceState.Offline
    (row,) = check_restores(world.repository, "HV01", "hv01")
    assert "cluster resource Virtual Machine web was taken offline for it" in row.text
    # Whoever starts it meanwhile has no disk to start with.
    world.model.clusters.bring_online(vm_id)
    assert role(world, vm_id) is ResourceState.Failed
    result = replaced(world, builtin, vm_id)
    assert result.error is None, result.error
    assert world.model.vms.get(vm_id).state is VMState.Running
    assert content(world, vm_id) == point_of(world, vm_id)


def test_a_restore_that_fails_before_it_writes_brings_the_role_back(
    world: World, host: HyperVHost, vm_id: UUID
) -> None:
    shows_online(world, vm_id)
    was = content(world, vm_id)
    world.model.faults.arm_call("CopyFile", code=1117)
    assert isinstance(replaced(world, host, vm_id).error, OperationFailed)
    assert list(open_in_place(world.repository, "HV01")) == []
    assert role(world, vm_id) is ResourceState.Online
    assert content(world, vm_id) == was


@pytest.mark.parametrize(
    ("call", "error"), [("Get-ClusterResource", "failed"), ("Stop-ClusterResource", "access_denied")]
)
def test_a_cluster_that_refuses_leaves_the_vm_as_it_is(
    world: World, host: HyperVHost, vm_id: UUID, call: str, error: str
) -> None:
    shows_online(world, vm_id)
    was = content(world, vm_id)
    world.model.faults.arm_call(call, error=error)
    assert isinstance(replaced(world, host, vm_id).error, HostError)
    assert list(open_in_place(world.repository, "HV01")) == []
    assert role(world, vm_id) is ResourceState.Online
    assert content(world, vm_id) == was


def test_a_cluster_that_is_busy_or_slow_is_waited_for(world: World, host: HyperVHost, vm_id: UUID) -> None:
    shows_online(world, vm_id)
    world.model.faults.arm_call("Stop-ClusterResource", 2, error="busy")
    world.model.faults.arm_call("Start-ClusterResource", 2, error="busy")
    world.model.faults.arm_call("Get-ClusterResource", seconds=0.5)
    world.model.set_knob("role_seconds", 0.3)
    result = replaced(world, host, vm_id)
    assert result.error is None, result.error
    assert role(world, vm_id) is ResourceState.Online


def test_a_role_that_does_not_come_back_is_a_warning(world: World, host: HyperVHost, vm_id: UUID) -> None:
    shows_online(world, vm_id)
    world.model.faults.arm_call("Start-ClusterResource", error="failed")
    result = replaced(world, host, vm_id)
    assert result.error is None, result.error
    (warning,) = result.warnings
    assert warning.startswith("Virtual Machine web is not online again, start it in the cluster: ")
    assert content(world, vm_id) == point_of(world, vm_id)
    (row,) = check_restores(world.repository, "HV01", "hv01")
    assert "was taken offline for it" in row.text
    forgotten = forget_in_place(host, world.repository, uuid4(), host.vm(vm_id))
    assert forgotten.done[-1] == "cluster resource Virtual Machine web is online again, as before"
    assert role(world, vm_id) is ResourceState.Online


def test_a_role_that_is_changing_is_refused(world: World, builtin: HyperVHost, vm_id: UUID) -> None:
    shows_online(world, vm_id)
    world.model.set_knob("role_seconds", 1e6)
    world.model.clusters.take_offline(vm_id)
    text = str(replaced(world, builtin, vm_id).error)
    assert "its cluster resource Virtual Machine web is pending; wait until it is offline" in text


@pytest.mark.parametrize("knob", sorted(HOSTILE_TO_RESTORES))
def test_no_hostile_host_gets_a_half_restored_vm(
    world: World, host: HyperVHost, vm_id: UUID, knob: str
) -> None:
    switch_off(world, vm_id)
    assert role(world, vm_id) is ResourceState.Offline
    was = content(world, vm_id)
    world.model.set_knob(knob, HOSTILE_TO_RESTORES[knob])
    world.model.clusters.bring_online(vm_id)
    while role(world, vm_id) is not ResourceState.Online:
        pass
    switch_off(world, vm_id)
    result = replaced(world, host, vm_id)
    if result.error is None:
        assert content(world, vm_id) == point_of(world, vm_id)
    else:
        assert isinstance(result.error, ConfigurationError)
        assert content(world, vm_id) == was


def test_a_role_that_comes_back_at_once_is_named(world: World, host: HyperVHost, vm_id: UUID) -> None:
    shows_online(world, vm_id)
    was = content(world, vm_id)
    world.model.set_knob("role_returns_seconds", 1e-6)
    error = replaced(world, host, vm_id).error
    assert isinstance(error, (ConfigurationError, OperationFailed))
    assert content(world, vm_id) == was
    assert list(open_in_place(world.repository, "HV01")) == []
    assert world.model.vms.get(vm_id).state is VMState.Running


def test_a_role_that_comes_back_while_it_is_written_cannot_start(
    world: World, builtin: HyperVHost, vm_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows_online(world, vm_id)
    write = HostDisk.write

    def returning(disk: HostDisk, source: object) -> object:
        world.model.clusters.bring_online(vm_id)
        assert role(world, vm_id) is ResourceState.Failed
        with pytest.raises(HyperVError):
            world.model.vms.set_state(vm_id, "start")
        return write(disk, source)  # type: ignore[arg-type]

    monkeypatch.setattr(HostDisk, "write", returning)
    result = replaced(world, builtin, vm_id)
    assert result.error is None, result.error
    assert content(world, vm_id) == point_of(world, vm_id)
    assert len(content(world, vm_id)) == SIZE
    assert role(world, vm_id) is ResourceState.Online

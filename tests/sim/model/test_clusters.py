"""Resources of clustered VMs: how they follow their VMs, and what a cluster does by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.sim.model import HyperVError, ManualClock, Model, VMState
from hvpsbridge.sim.model.enums import ResourceState


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def model(tmp_path: Path, clock: ManualClock) -> Iterator[Model]:
    world = Model(tmp_path, clock=clock)
    yield world
    world.close()


@pytest.fixture
def vm_id(model: Model) -> UUID:
    """A clustered VM that runs."""
    model.nodes.get("HV01").cluster = "one"
    return model.setup.create_vm("web", clustered=True).vm_id


def state(model: Model, vm_id: UUID) -> ResourceState:
    return model.clusters.role(vm_id).state


def test_a_resource_follows_its_vm(model: Model, vm_id: UUID) -> None:
    for action, after in (
        ("pause", ResourceState.Online),
        ("resume", ResourceState.Online),
        ("save", ResourceState.Offline),
        ("start", ResourceState.Online),
        ("stop", ResourceState.Offline),
    ):
        model.vms.set_state(vm_id, action)
        assert state(model, vm_id) is after


def test_a_vm_that_runs_is_saved_when_its_resource_goes_offline(model: Model, vm_id: UUID) -> None:
    assert model.clusters.take_offline(vm_id).state is ResourceState.Offline
    assert model.vms.get(vm_id).state is VMState.Saved
    assert model.clusters.bring_online(vm_id).state is ResourceState.Online
    assert model.vms.get(vm_id).state is VMState.Running


def test_a_cluster_may_notice_late_be_slow_and_bring_a_resource_back(
    model: Model, clock: ManualClock, vm_id: UUID
) -> None:
    model.set_knob("role_notices_seconds", 10.0)
    model.set_knob("role_seconds", 5.0)
    model.vms.set_state(vm_id, "stop")
    assert state(model, vm_id) is ResourceState.Online
    clock.advance(10.0)
    assert state(model, vm_id) is ResourceState.Offline
    model.set_knob("role_returns_seconds", 60.0)
    assert model.clusters.bring_online(vm_id).state is ResourceState.OnlinePending
    clock.advance(5.0)
    assert state(model, vm_id) is ResourceState.Online
    assert model.clusters.take_offline(vm_id).state is ResourceState.OfflinePending
    clock.advance(5.0)
    assert state(model, vm_id) is ResourceState.Offline
    clock.advance(60.0)
    assert state(model, vm_id) is ResourceState.Online
    assert model.vms.get(vm_id).state is VMState.Running


def test_vms_and_hosts_outside_of_a_cluster_have_none(model: Model, vm_id: UUID) -> None:
    alone = model.setup.create_vm("alone").vm_id
    with pytest.raises(HyperVError):
        model.clusters.role(alone)
    model.nodes.get("HV01").cluster = None
    with pytest.raises(HyperVError):
        model.clusters.role(vm_id)


def test_a_resource_is_saved_with_the_world(model: Model, clock: ManualClock, vm_id: UUID) -> None:
    model.set_knob("role_notices_seconds", 10.0)
    model.vms.set_state(vm_id, "stop")
    assert state(model, vm_id) is ResourceState.Online
    model.save()
    loaded = Model(model.folder, clock=clock)
    assert state(loaded, vm_id) is ResourceState.Online
    clock.advance(10.0)
    assert state(loaded, vm_id) is ResourceState.Offline
    loaded.close()

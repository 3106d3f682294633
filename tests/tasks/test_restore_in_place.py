"""Restoring into the disks of a VM: what is written, what stays, what is refused, the next backup."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.writer import FileWriter
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Slot, VMState
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.in_place import InPlaceOptions, InPlaceVm
from hvpsbridge.tasks.restore.in_place_ledger import open_in_place
from hvpsbridge.tasks.restore.results import RestoreResult
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.units import KIB, MIB
from tests.connections import basic
from tests.tasks.world import SIZE, SLOT, World

SECOND = Slot(ControllerType.SCSI, 0, 1)


@pytest.fixture
def builtin(world: World) -> Iterator[HyperVHost]:
    yield from _served(world, "builtin")


@pytest.fixture(params=["builtin", "powershell"])
def host(request: pytest.FixtureRequest, world: World) -> Iterator[HyperVHost]:
    if request.param == "powershell":
        request.getfixturevalue("pwsh")
    yield from _served(world, request.param)


def _served(world: World, engine: str) -> Iterator[HyperVHost]:
    with (
        SimulatedHost(world.model, engine=engine) as served,
        HyperVHost.connect(basic(served.url, "HV01", operation_timeout=5)) as host,
    ):
        yield host


def replaced(
    world: World,
    host: HyperVHost,
    vm_id: UUID,
    point: str = "latest",
    disk: int | None = None,
    **options: bool,
) -> RestoreResult:
    target = InPlaceVm(host, world.repository, uuid4(), InPlaceOptions(**options))
    wanted = RestoreOptions(to="raw:/unused", point=point, disk=disk)
    return restore_vm(world.context(VmRef("HV01", vm_id, "web")), wanted, target)


def content(world: World, vm_id: UUID, slot: Slot = SLOT) -> bytes:
    return world.model.golden.live(vm_id, slot).read_bytes()


def switch_off(world: World, vm_id: UUID) -> None:
    world.model.vms.set_state(vm_id, "stop")


def test_only_what_differs_is_written_and_the_next_backup_compares(
    world: World, host: HyperVHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE))
    world.good_backup(vm_id)
    before = content(world, vm_id), content(world, vm_id, SECOND)
    world.model.guests.write(vm_id, SLOT, 3 * MIB, b"x" * 100 * KIB)
    world.good_backup(vm_id)
    world.churn(vm_id, SECOND)
    switch_off(world, vm_id)
    drives = world.model.disks.drives(vm_id)
    sent: list[int] = []
    write = FileWriter.write
    monkeypatch.setattr(
        FileWriter, "write", lambda self, offset, data: (sent.append(len(data)), write(self, offset, data))
    )
    result = replaced(world, host, vm_id, "latest~1")
    assert result.error is None, result.error
    assert (content(world, vm_id), content(world, vm_id, SECOND)) == before
    assert 100 * KIB <= sum(sent) < 2 * MIB
    assert world.model.disks.drives(vm_id) == drives
    assert [world.model.disks.layer(drive.layer).vm_path for drive in drives] == [None, None]  # type: ignore[arg-type]
    assert not any(world.model.disks.layer(drive.layer).beside for drive in drives)  # type: ignore[arg-type]
    assert world.model.reference_points.all(vm_id) == ()
    assert not world.model.driver.attached()
    (kept,) = open_in_place(world.repository, "HV01")
    assert kept.kept
    world.model.vms.set_state(vm_id, "start")
    world.good_backup(vm_id)
    last = world.repository.catalog.points(vm_id)[-1]
    first = world.repository.catalog.points(vm_id)[0]
    for disk in last.disks:
        assert (disk.mode, disk.reason, disk.base) == ("compare", "restored", first.point_id)
        assert disk.stats.changed_bytes == 0
    world.assert_points_equal(vm_id)
    world.churn(vm_id)
    world.churn(vm_id, SECOND)
    world.good_backup(vm_id)
    newest = world.repository.catalog.points(vm_id)[-1]
    assert [disk.mode for disk in newest.disks] == ["incremental", "incremental"]
    assert world.model.vms.get(vm_id).state is VMState.Running

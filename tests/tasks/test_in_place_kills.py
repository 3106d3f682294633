"""A restore in place or its undo, killed before or after any call: the VM starts whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository.lease import Lease
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import HyperVError, VMState
from hvpsbridge.sim.model.enums import ResourceState
from hvpsbridge.sim.model.stored import Layer
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.in_place import InPlaceVm
from hvpsbridge.tasks.restore.in_place_checks import InPlaceOptions
from hvpsbridge.tasks.restore.in_place_ledger import open_in_place
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.tasks.restore.undo import forget_in_place, undo_in_place
from tests.connections import basic
from tests.tasks.test_restore_kills import Killer
from tests.tasks.world import SECOND, SIZE, SLOT, Died, World


@pytest.fixture
def served(world: World) -> Iterator[SimulatedHost]:
    with SimulatedHost(world.model, engine="builtin") as host:
        yield host


class Case:
    """A VM with two disks, one point, and other content since."""

    def __init__(self, world: World, served: SimulatedHost, **settings: object) -> None:
        self.world, self.served = world, served
        self.vm_id = world.vm(disks=(SIZE, SIZE), **settings)
        world.good_backup(self.vm_id)
        self.point = self.content()
        world.model.vms.set_state(self.vm_id, "stop")

    def content(self) -> tuple[bytes, ...]:
        golden = self.world.model.golden
        return tuple(golden.live(self.vm_id, slot).read_bytes() for slot in (SLOT, SECOND))

    def changed(self) -> tuple[bytes, ...]:
        model = self.world.model
        model.vms.set_state(self.vm_id, "start")
        for slot in (SLOT, SECOND):
            model.guests.write(self.vm_id, slot, 0, self.world.chance.randbytes(200_704))
        model.vms.set_state(self.vm_id, "stop")
        return self.content()

    def connected(self) -> HyperVHost:
        return HyperVHost.connect(basic(self.served.url, "HV01", operation_timeout=5))

    def restore(self, host: HyperVHost) -> None:
        target = InPlaceVm(host, self.world.repository, uuid4(), InPlaceOptions())
        context = self.world.context(VmRef("HV01", self.vm_id, "web"))
        error = restore_vm(context, RestoreOptions(to="raw:/unused"), target).error
        assert error is None, error

    def undo(self, host: HyperVHost) -> None:
        undo_in_place(host, self.world.repository, uuid4(), host.vm(self.vm_id), lambda seconds: True)

    def starts(self) -> bool:
        try:
            self.world.model.vms.set_state(self.vm_id, "start")
        except HyperVError:
            return False
        self.world.model.vms.set_state(self.vm_id, "stop")
        return True

    def restore_before_an_undo(self) -> None:
        with self.connected() as host:
            self.restore(host)
        self.world.model.vms.set_state(self.vm_id, "stop")

    def forget(self) -> None:
        with self.connected() as host:
            forget_in_place(host, self.world.repository, uuid4(), host.vm(self.vm_id))

    def check_killed(self, was: tuple[bytes, ...], step: str) -> None:
        """The VM is whole, or cannot start."""
        if self.starts():
            assert self.content() in (was, self.point), step

    def end(self, was: tuple[bytes, ...], how: int, step: str) -> None:
        """Finish or undo what was killed, then forget it."""
        found = list(open_in_place(self.world.repository, "HV01"))
        with self.connected() as host:
            if how == 0 and found and not found[0].kept and found[0].restore.stage != "undoing":
                self.restore(host)
                assert self.content() == self.point, step
            elif found:
                self.undo(host)
                assert self.content() == was, step
            forget_in_place(host, self.world.repository, uuid4(), host.vm(self.vm_id))
            copies = [disk.path.replace(".vhdx", ".before-restore.vhdx") for disk in self.disks()]
            assert host.restoring.folder(None, copies).found == (), step
        self.assert_clean(step)

    def assert_clean(self, step: str) -> None:
        model = self.world.model
        assert self.starts(), step
        assert list(open_in_place(self.world.repository, "HV01")) == [], step
        assert not model.driver.attached(), step
        for disk in self.disks():
            assert (disk.vm_path, disk.beside) == (None, {}), step

    def disks(self) -> list[Layer]:
        disks = self.world.model.disks
        return [disks.layer(drive.layer) for drive in disks.drives(self.vm_id)]  # type: ignore[arg-type]


class ClusteredCase(Case):
    """The same in a cluster that has not noticed that the VM was shut down, so that its role is online."""

    def __init__(self, world: World, served: SimulatedHost) -> None:
        world.model.nodes.get("HV01").cluster = "one"
        world.model.set_knob("role_notices_seconds", 1e6)
        super().__init__(world, served, clustered=True)

    @property
    def online(self) -> bool:
        return self.world.model.clusters.role(self.vm_id).state is ResourceState.Online

    def check_killed(self, was: tuple[bytes, ...], step: str) -> None:
        if not self.online:
            (found,) = open_in_place(self.world.repository, "HV01")
            assert found.restore.role == "Virtual Machine web", step

    def end(self, was: tuple[bytes, ...], how: int, step: str) -> None:
        if self.world.model.vms.get(self.vm_id).state is VMState.Running:
            self.world.model.vms.set_state(self.vm_id, "stop")
        super().end(was, how, step)

    def assert_clean(self, step: str) -> None:
        assert self.online, step
        super().assert_clean(step)


@pytest.fixture
def forgotten_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that is gone holds ends: its lease at once, instead of after an hour."""
    leases: list[Lease] = []
    begin = Lease.__init__

    def remembered(lease: Lease, *args: object, **more: object) -> None:
        begin(lease, *args, **more)  # type: ignore[arg-type]
        leases.append(lease)

    monkeypatch.setattr(Lease, "__init__", remembered)


@pytest.fixture
def case(world: World, served: SimulatedHost, forgotten_leases: None) -> Case:
    return Case(world, served)


@pytest.fixture
def clustered(world: World, served: SimulatedHost, forgotten_leases: None) -> ClusteredCase:
    return ClusteredCase(world, served)


@pytest.fixture
def real(world: World, pwsh: object, forgotten_leases: None) -> Iterator[Case]:
    """A case whose host runs the scripts in a real PowerShell."""
    with SimulatedHost(world.model, engine="powershell") as host:
        yield ClusteredCase(world, host)


def steps_of(case: Case, act: object) -> list[str]:
    with pytest.MonkeyPatch.context() as patch, case.connected() as host:
        killer = Killer(-1, patch)
        act(host)  # type: ignore[operator]
        return killer.names


def killed(case: Case, act: object, at: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        host = case.connected()
        Killer(at, patch)
        with suppress(Died):
            act(host)  # type: ignore[operator]
    host.close()


def kill_restores(case: Case, chosen: slice, *names: str) -> None:
    """Kill a restore at each of the chosen calls, or at the first one of each name."""
    case.changed()
    steps = steps_of(case, case.restore)
    assert {"after Copy-HvpsFile", "before Move-HvpsFile", "after Get-HvpsDiskDigest"} <= set(steps)
    assert "before Write-HvpsFile" in steps  # of the disk: the writer's pipeline
    case.forget()
    places = [(steps.index(name), name) for name in names] or list(enumerate(steps))[chosen]
    for at, step in places:
        was = case.changed()
        killed(case, case.restore, at)
        case.check_killed(was, step)
        case.end(was, at % 2, step)


def kill_undos(case: Case, chosen: slice) -> None:
    was = case.changed()
    case.restore_before_an_undo()
    steps = steps_of(case, case.undo)
    for at, step in list(enumerate(steps))[chosen]:
        was = case.changed()
        case.restore_before_an_undo()
        killed(case, case.undo, at)
        case.check_killed(was, step)
        case.end(was, 1, step)


# Three tests share the calls, so that they run beside each other.
PARTS = pytest.mark.parametrize("part", range(3))


@PARTS
def test_a_restore_killed_at_any_call(case: Case, part: int) -> None:
    kill_restores(case, slice(part, None, 3))


@PARTS
def test_an_undo_killed_at_any_call(case: Case, part: int) -> None:
    kill_undos(case, slice(part, None, 3))


def test_a_restore_into_a_clustered_vm_killed_at_some_calls(clustered: Case) -> None:
    kill_restores(clustered, slice(1, None, 7))


def test_an_undo_in_a_clustered_vm_killed_at_some_calls(clustered: Case) -> None:
    kill_undos(clustered, slice(4, None, 7))


def test_a_restore_killed_on_the_real_engine(real: Case) -> None:
    kill_restores(real, slice(0), "after Move-HvpsFile", "before Write-HvpsFile")


@pytest.mark.soak
@PARTS
def test_a_restore_into_a_clustered_vm_killed_at_any_call(clustered: Case, part: int) -> None:
    kill_restores(clustered, slice(part, None, 3))


@pytest.mark.soak
@PARTS
def test_an_undo_in_a_clustered_vm_killed_at_any_call(clustered: Case, part: int) -> None:
    kill_undos(clustered, slice(part, None, 3))


@pytest.mark.soak
@PARTS
def test_a_restore_killed_at_any_call_of_the_real_engine(real: Case, part: int) -> None:
    kill_restores(real, slice(part, None, 3))


@pytest.mark.soak
@PARTS
def test_an_undo_killed_at_any_call_of_the_real_engine(real: Case, part: int) -> None:
    kill_undos(real, slice(part, None, 3))

"""A restore onto a host, killed before or after any call: a sweep or another try leaves one VM or none."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.runner import OperationRunner
from hvpsbridge.host.writer import FileWriter
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.tasks.cleanup.restores import open_restores, sweep_restores
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.onto_host import HostOptions, HostVm
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from tests.connections import basic
from tests.tasks.world import Died, World

FOLDER = "C:\\Restored"


@pytest.fixture
def served(world: World) -> Iterator[SimulatedHost]:
    with SimulatedHost(world.model, engine="builtin") as host:
        yield host


def connected(served: SimulatedHost) -> HyperVHost:
    return HyperVHost.connect(basic(served.url, "HV01", operation_timeout=5))


def target_of(world: World, host: HyperVHost, *, from_config: bool = False) -> HostVm:
    options = HostOptions(name="copy", folder=FOLDER, from_config=from_config)
    return HostVm(host, world.repository, uuid4(), options)


def restore(world: World, target: HostVm, vm_id: UUID) -> Any:
    context = world.context(VmRef("HV01", vm_id, "web"))
    return restore_vm(context, RestoreOptions(to="raw:/unused"), target)


class Killer:
    """Ends the process at one of its calls; what it does afterwards reaches no host."""

    def __init__(self, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at, self.calls, self.names = at, 0, []  # type: ignore[var-annotated]
        results = OperationRunner._results
        start = FileWriter._start

        def killed_results(
            runner: OperationRunner, name: str, *args: Any, **more: Any
        ) -> Generator[Any, None, None]:
            self.step(f"before {name}")
            yield from results(runner, name, *args, **more)
            self.step(f"after {name}")

        def killed_start(writer: FileWriter) -> Any:
            self.step("before Write-HvpsFile")
            return start(writer)

        monkeypatch.setattr(OperationRunner, "_results", killed_results)
        monkeypatch.setattr(FileWriter, "_start", killed_start)

    def step(self, name: str) -> None:
        self.calls += 1
        self.names.append(name)
        if 0 <= self.at < self.calls:
            raise Died


def names(world: World) -> list[str]:
    return [vm.name for vm in world.model.vms.all()]


def _steps(world: World, served: SimulatedHost, vm_id: UUID, *, from_config: bool) -> list[str]:
    with pytest.MonkeyPatch.context() as patch, connected(served) as host:
        killer = Killer(-1, patch)
        assert restore(world, target_of(world, host, from_config=from_config), vm_id).error is None
        return killer.names


def test_every_step(world: World, served: SimulatedHost) -> None:
    steps = _killed_at_every_step(world, served, from_config=False)
    assert {"after New-HvpsVm", "before New-HvpsFile", "before Move-HvpsFile"} <= steps


def test_every_step_from_the_configuration(world: World, served: SimulatedHost) -> None:
    steps = _killed_at_every_step(world, served, from_config=True)
    assert {"after New-HvpsPlannedVm", "before Complete-HvpsPlannedVm", "after Remove-HvpsFile"} <= steps


def _killed_at_every_step(world: World, served: SimulatedHost, *, from_config: bool) -> set[str]:
    vm_id = world.vm()
    world.good_backup(vm_id)
    steps = _steps(world, served, vm_id, from_config=from_config)
    finish: tuple[Callable[[], None], ...] = (
        lambda: _sweep(world, served),
        lambda: _again(world, served, vm_id, from_config=from_config),
    )
    for at in range(len(steps)):
        _remove_copy(world, served)
        with pytest.MonkeyPatch.context() as patch:
            host = connected(served)
            target = target_of(world, host, from_config=from_config)
            Killer(at, patch)
            with suppress(Died):
                restore(world, target, vm_id)
        host.close()
        if target._journal is not None:
            # The lease of a process that is gone.
            target._journal.release()
        made = "copy" in names(world)
        finish[at % 2]()
        left = list(open_restores(world.repository, "HV01"))
        assert not left, steps[at]
        assert world.model.planned.all() == (), steps[at]
        imported = [path for path in world.model.host_files.made() if path.endswith((".vmcx", ".vmgs"))]
        assert not imported, steps[at]
        if at % 2 == 0 and not made:
            assert world.model.host_files.made() == (), steps[at]
        copies = [vm for vm in world.model.vms.all() if vm.name == "copy"]
        assert len(copies) <= 1, steps[at]
        for vm in copies:
            assert len(vm.drives) == 1, steps[at]
            assert vm.notes == "", steps[at]
    return set(steps)


def _sweep(world: World, served: SimulatedHost) -> None:
    with connected(served) as host:
        assert sweep_restores(host, world.repository, "HV01").left == ()


def _again(world: World, served: SimulatedHost, vm_id: UUID, *, from_config: bool) -> None:
    finished = "copy" in names(world)
    with connected(served) as host:
        error = restore(world, target_of(world, host, from_config=from_config), vm_id).error
    # A VM that was finished is not made twice.
    assert (error is None) != finished, error


def _remove_copy(world: World, served: SimulatedHost) -> None:
    for vm in world.model.vms.all():
        if vm.name == "copy":
            for drive in world.model.disks.drives(vm.vm_id):
                world.model.setup.remove_disk(vm.vm_id, drive.slot)
            world.model.setup.delete_vm(vm.vm_id)
    with connected(served) as host:
        made = world.model.host_files.made()
        host.restoring.remove_files([path for path in made if path.endswith(".vhdx")])
        host.restoring.remove_files((), sorted(world.model.host_files.made(), key=len, reverse=True))
    assert world.model.host_files.made() == ()


def test_a_restore_at_work_is_not_swept(world: World, served: SimulatedHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    with connected(served) as host:
        target = target_of(world, host)
        target.check(point, world.sources(point))
        host.restoring.new_file(target.file(point.disks[0]), 1)
        before = world.model.host_files.made()
        _sweep_elsewhere(world, host)
        assert world.model.host_files.made() == before
        assert len(list(open_restores(world.repository, "HV01"))) == 1
        assert target._journal is not None
        target._journal.release()


def _sweep_elsewhere(world: World, host: HyperVHost) -> None:
    swept = sweep_restores(host, world.repository, "HV01")
    assert swept.done == ()

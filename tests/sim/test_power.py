"""Hosts of one world that die, boot and come back: whoever serves one answers for it only while it is up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.errors import HostError, HostUnreachable, SessionLost
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import Model
from hvpsbridge.units import MIB
from tests.connections import basic
from tests.sim.test_wsman_faults import listens
from tests.waiting import wait_until


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    world = Model(tmp_path)
    world.nodes.get("HV01").cluster = "one"
    world.setup.add_node("HV02", cluster="one")
    yield world
    world.close()


@pytest.fixture
def hosts(model: Model) -> Iterator[dict[str, SimulatedHost]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(SimulatedHost(model, node=name)) for name in ("HV01", "HV02")}


def connect(host: SimulatedHost) -> HyperVHost:
    connection = basic(host.url, "hv", operation_timeout=2)
    return HyperVHost.connect(connection)


def answers(host: SimulatedHost) -> bool:
    try:
        with connect(host) as connected:
            return bool(connected.host_info().name)
    except (HostUnreachable, SessionLost):
        return False


def test_a_dead_host_answers_nobody_until_it_is_revived_and_its_vm_runs_elsewhere(
    model: Model, hosts: dict[str, SimulatedHost]
) -> None:
    vm = model.setup.create_vm("web01", clustered=True)
    with connect(hosts["HV01"]) as before:
        assert [one.name for one in before.list_vms()[0]] == ["web01"]
        model.incidents.kill_host("HV01")
        with pytest.raises((SessionLost, HostUnreachable)):
            before.list_vms()
    assert not answers(hosts["HV01"])
    wait_until(lambda: hosts["HV01"].service.shells.all() == ())
    with connect(hosts["HV02"]) as heir:
        assert heir.vm(vm.vm_id).name == "web01"
    model.incidents.revive_host("HV01")
    wait_until(lambda: answers(hosts["HV01"]))
    with connect(hosts["HV01"]) as again:
        assert again.list_vms() == ((), ())


def test_what_a_host_was_asked_before_it_died_is_never_answered(
    model: Model, hosts: dict[str, SimulatedHost]
) -> None:
    vm = model.setup.create_vm("web01", clustered=True)
    model.setup.add_disk(vm.vm_id, size_bytes=MIB)
    seen: list[HostError | None] = []

    def ask() -> None:
        try:
            with connect(hosts["HV01"]) as host:
                host.remove_checkpoint(vm.vm_id, made.checkpoint_id, made.name)
        except HostError as err:
            seen.append(err)
        else:
            seen.append(None)

    model.set_knob("job_seconds", 0.0)
    model.jobs.wait(model.checkpoints.create(vm.vm_id))
    (made,) = model.checkpoints.all(vm.vm_id, hidden=True)
    model.set_knob("job_seconds", 600.0)
    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: bool(model.jobs.all(vm.vm_id, unfinished=True)))
    model.incidents.kill_host("HV01")
    asking.join()
    assert isinstance(seen[0], SessionLost | HostUnreachable)
    assert model.checkpoints.all(vm.vm_id, hidden=True), "its job died with it"


def test_a_host_whose_power_was_cut_is_back_without_its_shells(
    model: Model, hosts: dict[str, SimulatedHost]
) -> None:
    with connect(hosts["HV01"]) as before:
        booted, shell = before.host_info().boot_time, before.shell_id
        model.incidents.crash_host("HV01")
        wait_until(lambda: hosts["HV01"].service.shells.all() == ())
        before.list_vms()
        assert before.shell_id != shell, "the shell outlived its host"
    wait_until(lambda: answers(hosts["HV01"]))
    with connect(hosts["HV01"]) as after:
        assert after.host_info().boot_time > booted
    with connect(hosts["HV02"]) as other:
        assert other.host_info().name == "HV02"


def test_a_host_that_goes_down_again_while_it_boots_stays_down(
    model: Model, hosts: dict[str, SimulatedHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = hosts["HV01"].listener
    come_up, died, booted = listener._come_up, threading.Event(), threading.Event()

    def slow_boot(*arguments: Any) -> None:
        died.wait()
        come_up(*arguments)
        booted.set()

    monkeypatch.setattr(listener, "_come_up", slow_boot)
    model.incidents.crash_host("HV01")
    wait_until(lambda: not listens(listener.port))
    model.incidents.kill_host("HV01")
    wait_until(lambda: listener._boots == 2, "it did not go down again")
    monkeypatch.undo()
    died.set()
    booted.wait()
    assert not listens(listener.port)
    model.incidents.revive_host("HV01")
    wait_until(lambda: answers(hosts["HV01"]))

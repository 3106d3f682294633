"""What both engines tell of a host, its VMs and disks when a part of it cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.contract.sides import NOBODY, Side, comparable, on_both, outcome

Case = Callable[[Side], Any]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register a case."""
    CASES[function.__name__] = function
    return function


@contextmanager
def knob(side: Side, name: str, value: object) -> Iterator[None]:
    """A knob that is set within the block."""
    before = getattr(side.model.knobs, name)
    side.model.set_knob(name, value)
    try:
        yield
    finally:
        side.model.set_knob(name, before)


@contextmanager
def failing(side: Side, call: str, **settings: object) -> Iterator[None]:
    """A call that fails within the block."""
    side.model.faults.arm_call(call, 1000, **settings)
    try:
        yield
    finally:
        side.model.faults.clear()


@case
def security_and_merging(side: Side) -> Any:
    shielded = side.vm("shielded", shielded=True, tpm_enabled=True)
    exported = side.vm("exported", merge_enabled=False)
    found = [side.host.vm(shielded), side.host.vm(exported)]
    with knob(side, "no_security_settings", True):  # the cmdlet answers
        found.append(side.host.vm(shielded))
    with knob(side, "no_merge_settings", True):
        found.append(side.host.vm(exported))
    return found


def _listed_without(call: str, *, terminating: bool) -> Case:
    def run(side: Side) -> Any:
        vm_id = side.vm("listed", shielded=True, merge_enabled=False)
        side.model.setup.change_vm(vm_id, commit_fork_events=1)
        side.model.vms.set_state(vm_id, "power_off")
        side.model.vms.set_state(vm_id, "start")
        with failing(side, call, terminating=terminating), knob(side, "no_security_settings", True):
            listed, problems = side.host.list_vms(read_events=True)
            assert not problems
            return [vm for vm in listed if vm.vm_id == vm_id], side.host.vm(vm_id, read_events=True)

    run.__name__ = f"listed_without_{call}{'_thrown' * terminating}"
    return run


# What a call that fails would tell is left out, and the VM is listed all the same.
for _call in (
    "Get-CimInstance:Msvm_DiskMergeSettingData",
    "Get-CimInstance:Msvm_SecuritySettingData",
    "Get-VMSecurity",
    "Get-WinEvent",
    "Get-CimInstance:Msvm_ComputerSystem",
    "Get-CimInstance:Win32_Process",
):
    for _terminating in (False, True):
        case(_listed_without(_call, terminating=_terminating))


@case
def events_since_a_vm_was_started(side: Side) -> Any:
    vm_id = side.vm("forked")
    found = [side.host.vm(vm_id), side.host.vm(vm_id, read_events=True)]
    side.model.setup.change_vm(vm_id, commit_fork_events=2)
    found.append(side.host.vm(vm_id, read_events=True))
    side.model.vms.set_state(vm_id, "pause")
    side.model.vms.set_state(vm_id, "resume")
    found.append(side.host.vm(vm_id, read_events=True))
    side.model.vms.set_state(vm_id, "stop")
    found.append(side.host.vm(vm_id, read_events=True))
    side.model.vms.set_state(vm_id, "start")
    found.append(side.host.vm(vm_id, read_events=True))
    side.model.setup.change_vm(vm_id, commit_fork_events=3)
    found.append(side.host.vm(vm_id, read_events=True))
    assert [vm.commit_fork_events for vm in found] == [None, 0, 2, 2, 2, 0, 1]
    return found


@case
def a_vm_whose_settings_cannot_be_read(side: Side) -> Any:
    vm_id = side.vm("unreadable", unreadable=True)
    other = side.vm("beside")
    listed, problems = side.host.list_vms()
    assert not problems
    found = [vm for vm in listed if vm.vm_id in (vm_id, other)], side.host.vm(vm_id)
    side.model.setup.change_vm(vm_id, unreadable=False)
    return found


@case
def a_vm_that_leaves_while_it_is_listed(side: Side) -> Any:
    vm_id = side.vm("leaving", unreadable=True)
    other = side.vm("staying")
    with failing(side, "Get-VM", after=1, identifier="ObjectNotFound", category="ObjectNotFound"):
        listed, problems = side.host.list_vms()
    assert not problems
    assert vm_id not in {vm.vm_id for vm in listed}
    with failing(side, "Get-VM", after=1, identifier="ObjectNotFound", category="ObjectNotFound"):
        gone = outcome(lambda: side.host.vm(vm_id))
    side.model.setup.change_vm(vm_id, unreadable=False)
    return [vm for vm in listed if vm.vm_id == other], gone


@case
def the_calls_of_a_list_do_not_grow_with_the_vms(side: Side) -> Any:
    def cost() -> list[tuple[str, int]]:
        before = Counter(side.model.faults.calls.seen)
        side.host.list_vms(read_events=True)
        return sorted((side.model.faults.calls.seen - before).items())

    first = cost()
    for _ in range(5):
        side.vm("one more")
    assert cost() == first
    return [name for name, _ in first]


@case
def a_list_that_is_refused(side: Side) -> Any:
    with failing(side, "Get-VM"):
        return outcome(side.host.list_vms), outcome(lambda: side.host.vm(NOBODY))


@case
def a_host_whose_cluster_cannot_be_asked(side: Side) -> Any:
    found = []
    for call in ("Get-Cluster", "Get-CimInstance:Win32_ComputerSystemProduct"):
        for terminating in (False, True):
            with failing(side, call, terminating=terminating):
                found.append(side.host.host_info())
    return found


@case
def disks_without_their_allocations(side: Side) -> Any:
    vm_id = side.vm("without allocations")
    found = []
    for call in (
        "Get-CimInstance:Msvm_ComputerSystem",
        "Get-CimAssociatedInstance:Msvm_VirtualSystemSettingData",
        "Get-CimAssociatedInstance:Msvm_StorageAllocationSettingData",
    ):
        with failing(side, call):
            found.append(side.host.disks(vm_id))
        side.model.faults.arm_call(call)  # once
        found.append(side.host.disks(vm_id))
    assert [disk.instance_id is None for disk in found[0]] == [True, True]
    assert [disk.instance_id is None for disk in found[1]] == [False, False]
    return found


@pytest.mark.parametrize("name", CASES)
def test_both_engines_tell_the_same(name: str, sides: dict[str, Side]) -> None:
    answers = on_both(sides, lambda side: comparable(outcome(lambda: CASES[name](side)), {}))
    assert answers["powershell"] == answers["builtin"]

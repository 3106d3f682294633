"""What cannot be read about a VM for a while is waited for; what cannot be read at all costs that VM only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.results import VmInfo
from hvpsbridge.errors import Gated, NotEligible, OperationFailed, OperationTimedOut, VmNotFound
from hvpsbridge.sim.engines.operations import ANSWERS
from hvpsbridge.sim.model.state import VMState
from hvpsbridge.tasks.planning.eligibility import Severity
from hvpsbridge.units import MIB
from tests.tasks.wire import WireWorld
from tests.tasks.world import Steps, World

SIZE = 1 * MIB
# Every call with which a backup looks at a VM before it makes anything. Each fails in a script of its own.
LOOKS = (
    "Get-VM",
    "Get-VMHardDiskDrive",
    "Get-VHD",
    "Get-VMSnapshot",
    "Get-CimInstance:Msvm_ComputerSystem",
    "Get-CimInstance:Msvm_DiskMergeSettingData",
    "Get-CimInstance:Msvm_SecuritySettingData",
    "Get-CimAssociatedInstance:Msvm_VirtualSystemSettingData",
    "Get-CimAssociatedInstance:Msvm_StorageAllocationSettingData",
    "Get-CimAssociatedInstance:Msvm_VirtualSystemReferencePoint",
    "Get-CimInstance:Win32_Volume",
    "Get-WinEvent",
)


def at(step: str, world: World, call: str, count: int, **settings: object) -> Steps:
    return Steps((step, "before"), lambda: world.model.faults.arm_call(call, count, **settings))


@pytest.mark.parametrize("step", ["RESOLVE", "SETTLE", "PLAN", "RECORD_CHECKPOINT"])
@pytest.mark.parametrize("call", LOOKS)
def test_a_call_that_is_busy_for_a_while_costs_nothing(world: World, call: str, step: str) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.good_backup(vm_id, observer=at(step, world, call, 3, error="busy"))
    world.assert_points_equal(vm_id)


def test_a_call_that_always_fails_is_the_error_of_that_vm(world: World) -> None:
    broken, good = world.vm("broken", disks=(SIZE,)), world.vm("good", disks=(SIZE,))
    steps = at("RESOLVE", world, "Get-VMHardDiskDrive", 10_000, vm="broken")
    result = world.backup(broken, observer=steps, held_merge_seconds=0.2)
    assert isinstance(result.error, OperationFailed)
    assert "Get-HvpsDisk" in str(result.error)
    assert [note for note in steps.notes if note.startswith("waiting: ")]
    world.good_backup(good)


def test_a_disk_that_stays_busy_is_refused_with_the_reason(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    steps = at("RESOLVE", world, "Get-VHD", 10_000, error="busy")
    result = world.backup(vm_id, observer=steps, held_merge_seconds=0.2)
    assert isinstance(result.error, NotEligible)
    assert "Hvps.DiskBusy" in str(result.error)


def test_a_vm_that_is_gone_is_not_waited_for(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    settings = {"identifier": "ObjectNotFound", "category": "ObjectNotFound"}
    steps = at("PLAN", world, "Get-VM", 10_000, **settings)
    assert isinstance(world.backup(vm_id, observer=steps).error, VmNotFound)
    assert not [note for note in steps.notes if note.startswith("waiting: ")]


def test_settings_that_cannot_be_read_are_waited_for_and_then_refused(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,), unreadable=True)
    result = world.backup(vm_id, held_merge_seconds=0.2)
    assert isinstance(result.error, NotEligible)
    assert "the host does not tell ReplicationMode" in str(result.error)

    class Readable(Steps):
        def noted(self, vm: object, text: str) -> None:
            world.model.setup.change_vm(vm_id, unreadable=False)

    world.good_backup(vm_id, observer=Readable())


# -- events -------------------------------------------------------------------------------------------


def reads_of_the_log(world: World) -> int:
    return world.model.faults.calls.seen["Get-WinEvent"]


def test_the_event_log_is_read_once_per_backup_and_again_after_a_wait(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    assert reads_of_the_log(world) == 1
    world.model.setup.change_vm(vm_id, state=VMState.Paused)
    looks = 0

    def count(name: str) -> None:
        nonlocal looks
        looks += name == "Get-HvpsCheckpoint"
        if looks == 5:
            world.model.setup.change_vm(vm_id, state=VMState.Running)

    world.before = count
    world.good_backup(vm_id, wait=60.0)
    assert looks > 5
    assert reads_of_the_log(world) == 3


def test_an_event_of_the_wait_is_seen(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,), state=VMState.Paused)

    class Forking(Steps):
        def noted(self, vm: object, text: str) -> None:
            world.model.setup.change_vm(vm_id, state=VMState.Running, commit_fork_events=1)

    result = world.backup(vm_id, observer=Forking(), wait=60.0)
    assert isinstance(result.error, NotEligible)
    assert "event 3216" in str(result.error)


def test_events_before_the_last_start_do_not_count(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.change_vm(vm_id, commit_fork_events=2)
    result = world.backup(vm_id)
    assert isinstance(result.error, NotEligible)
    assert "since the VM was started (2 times, last at " in str(result.error)
    world.model.vms.set_state(vm_id, "stop")
    assert isinstance(world.backup(vm_id).error, NotEligible)
    world.model.vms.set_state(vm_id, "start")
    world.good_backup(vm_id)


def test_events_that_the_playbook_accepts_are_noted(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.change_vm(vm_id, commit_fork_events=1)
    before = datetime.now(UTC) - timedelta(hours=1)
    refused = world.backup(vm_id, accept_event_3216_until=before).error
    assert isinstance(refused, NotEligible)
    # The time as a person copies it, without fractions of the second.
    shown = str(refused).split("last at ")[1].split(" UTC")[0]
    result = world.good_backup(vm_id, accept_event_3216_until=datetime.fromisoformat(f"{shown}+00:00"))
    (finding,) = result.findings
    assert finding.severity is Severity.NOTE
    assert "which the playbook accepts" in finding.text


def test_a_log_that_cannot_be_read_is_noted(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.faults.arm_call("Get-WinEvent", 10, error="access_denied")
    (finding,) = world.good_backup(vm_id).findings
    assert finding.severity is Severity.NOTE
    assert "Worker log cannot be read" in finding.text


# -- settings of all VMs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "calls", "text"),
    [
        (("no_merge_settings",), (), "whether merging of its disks is enabled"),
        ((), ("Get-CimInstance:Msvm_DiskMergeSettingData",), "whether merging of its disks is enabled"),
        (("no_security_settings",), ("Get-VMSecurity",), "whether it is shielded"),
    ],
    ids=str,
)
def test_what_the_host_does_not_tell_is_noted(
    world: World, knobs: tuple[str, ...], calls: tuple[str, ...], text: str
) -> None:
    vm_id = world.vm(disks=(SIZE,))
    for name in knobs:
        world.model.set_knob(name, True)
    for call in calls:
        world.model.faults.arm_call(call, 1000)
    (finding,) = world.good_backup(vm_id).findings
    assert finding.severity is Severity.NOTE
    assert f"does not tell {text}" in finding.text


def test_a_vm_is_shielded_whoever_tells(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,), shielded=True)
    world.model.set_knob("no_security_settings", True)
    assert isinstance(world.backup(vm_id).error, NotEligible)


def test_volumes_that_cannot_be_read_are_a_warning(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.faults.arm_call("Get-CimInstance:Win32_Volume", 10_000)
    result = world.good_backup(vm_id)
    assert any("free space on the volumes of the VM is unknown" in text for text in result.warnings)


# -- lists --------------------------------------------------------------------------------------------


def test_an_error_in_the_middle_of_a_list_keeps_what_was_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {world.vm(name, disks=()) for name in "abc"}
    answer = ANSWERS["Get-HvpsVm"]

    def cut(context: object, given: object) -> Iterator[object]:
        for count, vm in enumerate(answer(context, given)):  # type: ignore[arg-type]
            if count == 2:
                context.cmdlet("Get-VM")  # type: ignore[attr-defined]
            yield vm

    monkeypatch.setitem(ANSWERS, "Get-HvpsVm", cut)
    world.model.faults.arm_call("Get-VM", after=1)
    with world.host() as host:
        vms, (problem,) = host.list_vms()
    assert len(vms) == 2
    assert {vm.vm_id for vm in vms} < names
    assert isinstance(problem, OperationFailed)


@pytest.mark.parametrize(("each", "fails"), [(10.0, False), (0.0, True)])
def test_a_list_may_take_longer_the_more_vms_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each: float, fails: bool
) -> None:
    assert OPERATIONS["Get-HvpsVm"].seconds_each > 0
    world = WireWorld(tmp_path)
    for name in "abcd":
        world.vm(name, disks=())
    answer = ANSWERS["Get-HvpsVm"]

    def slowly(context: object, given: object) -> Iterator[VmInfo]:
        for vm in answer(context, given):  # type: ignore[arg-type]
            yield vm  # type: ignore[misc]
            context.wait(0.5)  # type: ignore[attr-defined]

    monkeypatch.setitem(ANSWERS, "Get-HvpsVm", slowly)
    short = replace(OPERATIONS["Get-HvpsVm"], deadline_seconds=1.0, seconds_each=each)
    monkeypatch.setitem(OPERATIONS, "Get-HvpsVm", short)
    try:
        with world.connect(UUID(int=1)) as host:
            if fails:
                with pytest.raises(OperationTimedOut):
                    host.list_vms()
            else:
                assert len(host.list_vms()[0]) == 4
    finally:
        world.close()


def test_a_wait_that_does_not_end_names_its_reason(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,), second_status=32773)
    result = world.backup(vm_id, wait=0.1)
    assert isinstance(result.error, Gated)
    assert "it is being exported" in str(result.error)


# -- calls that Windows denies ------------------------------------------------------------------------


def test_volumes_that_are_denied_are_a_warning(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.faults.arm_call("Get-CimInstance:Win32_Volume", 10_000, error="access_denied")
    result = world.good_backup(vm_id)
    assert any("free space on the volumes of the VM is unknown" in text for text in result.warnings)

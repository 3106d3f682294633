"""Answers are held against what was asked."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract.results import CheckpointKind, Consistency
from hvpsbridge.errors import ProtocolViolation
from hvpsbridge.host.binding import pascal_case
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.runner import OperationRunner
from tests.tasks import builders as make


def emitted(result: Any, **changes: object) -> SimpleNamespace:
    """A result as a host emits it."""

    def wire(value: object) -> object:
        if isinstance(value, tuple):
            return list(value)
        if isinstance(value, datetime):
            return value.isoformat()
        return str(value) if isinstance(value, UUID | StrEnum) else value

    properties = {pascal_case(field.name): wire(getattr(result, field.name)) for field in fields(result)}
    return SimpleNamespace(type_names=[f"Hvps.{type(result).__name__}"], properties={**properties, **changes})


def host(*items: Any) -> HyperVHost:
    """A host that answers every operation with the same objects."""
    ready = [item if isinstance(item, SimpleNamespace) else emitted(item) for item in items]
    session = SimpleNamespace(run=lambda *arguments, **more: (item for item in ready), idle_seconds=0.0)
    return HyperVHost(OperationRunner(SimpleNamespace(name="HV01", jea=None), session, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("objects", [(), (make.vm(), make.vm())], ids=["none", "two"])
def test_one_vm_is_exactly_one_object(objects: tuple[object, ...]) -> None:
    with pytest.raises(ProtocolViolation, match=r"instead of one|listed twice"):
        host(*objects).vm(make.vm().vm_id)


def test_one_vm_is_the_one_that_was_asked_for() -> None:
    assert host(make.vm()).vm(make.vm().vm_id) == make.vm()
    with pytest.raises(ProtocolViolation, match=r"asked for VmId .*, got "):
        host(make.vm()).vm(uuid4())


def test_two_disks_in_one_slot_are_an_error() -> None:
    assert host(make.drive()).disks(make.VM_ID) == (make.drive(),)
    with pytest.raises(ProtocolViolation, match="disk slot scsi 0:0 is listed twice"):
        host(make.drive(), make.drive(path="C:\\other.vhdx")).disks(make.VM_ID)
    with pytest.raises(ProtocolViolation, match="disk slot scsi 0:0 is listed twice"):
        host(make.frozen(), make.frozen()).frozen_disks(make.VM_ID, make.frozen().checkpoint_id)
    with pytest.raises(ProtocolViolation, match=r"asked for CheckpointId .*, got "):
        host(make.frozen()).frozen_disks(make.VM_ID, uuid4())


def test_a_vm_that_is_listed_twice_does_not_hide_the_others() -> None:
    good, bad = make.vm(), make.vm(vm_id=uuid4())
    vms, problems = host(bad, good, bad).list_vms()
    assert vms == (good,)
    assert "is listed twice" in str(problems[0])


def test_what_is_made_must_be_what_was_asked_for() -> None:
    """Its name and kind, and neither it nor a reference point may have been there."""
    made = make.checkpoint(name="hvps mark")
    ask = host(made).create_checkpoint
    assert ask(make.VM_ID, "hvps mark", Consistency.CRASH) == made
    with pytest.raises(ProtocolViolation, match="named 'other'"):
        ask(make.VM_ID, "other", Consistency.CRASH)
    with pytest.raises(ProtocolViolation, match="existed before"):
        ask(make.VM_ID, "hvps mark", Consistency.CRASH, existing=[made.checkpoint_id])
    standard = make.checkpoint(name="hvps mark", kind=CheckpointKind.STANDARD)
    with pytest.raises(ProtocolViolation, match="of kind standard"):
        host(standard).create_checkpoint(make.VM_ID, "hvps mark", Consistency.CRASH)
    point = make.reference_point()
    assert host(point).convert(make.VM_ID, made.checkpoint_id) == point
    with pytest.raises(ProtocolViolation, match="existed before"):
        host(point).convert(make.VM_ID, made.checkpoint_id, existing=["rp-1"])
    with pytest.raises(ProtocolViolation, match="asked for VmId"):
        host(point).convert(uuid4(), made.checkpoint_id)


@pytest.mark.parametrize("change", [{"Name": None}, {"State": "odd"}, {"UptimeSeconds": -1}])
def test_a_vm_that_cannot_be_read_does_not_hide_the_others(change: dict[str, object]) -> None:
    good, bad = make.vm(), make.vm(vm_id=uuid4())
    vms, problems = host(emitted(bad, **change), good).list_vms()
    assert vms == (good,)
    (problem,) = problems
    assert isinstance(problem, ProtocolViolation)
    assert str(bad.vm_id) in str(problem)


@pytest.mark.parametrize(
    "change",
    [
        {"LogicalSectorBytes": 0},
        {"LogicalSectorBytes": 3},
        {"LogicalSectorBytes": 1 << 40},
        {"SizeBytes": 0},
        {"SizeBytes": (64 << 40) + 1},
    ],
    ids=str,
)
def test_a_disk_that_no_windows_has_is_not_read(change: dict[str, object]) -> None:
    """Before hours of reading, after which no recovery point could be made of it."""
    disk = make.frozen()
    assert host(disk).frozen_disks(make.VM_ID, disk.checkpoint_id) == (disk,)
    with pytest.raises(ProtocolViolation, match="disk scsi 0:0 has"):
        host(emitted(disk, **change)).frozen_disks(make.VM_ID, disk.checkpoint_id)

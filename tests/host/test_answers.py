"""Answers are held against what was asked."""

from __future__ import annotations

from dataclasses import fields
from enum import StrEnum
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract.results import VmInfo
from hvpsbridge.errors import ProtocolViolation
from hvpsbridge.host.binding import pascal_case
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.runner import OperationRunner
from tests.tasks import builders as make


class Answering(OperationRunner):
    """Answers every operation with the same objects."""

    def __init__(self, *objects: object) -> None:
        super().__init__(SimpleNamespace(name="HV01"), SimpleNamespace(), None)  # type: ignore[arg-type]
        self._objects = objects

    def many(self, name: str, **parameters: object) -> tuple[Any, ...]:
        return self._objects


def host(*objects: object) -> HyperVHost:
    return HyperVHost(Answering(*objects))


@pytest.mark.parametrize("objects", [(), (make.vm(), make.vm())], ids=["none", "two"])
def test_one_vm_is_exactly_one_object(objects: tuple[object, ...]) -> None:
    with pytest.raises(ProtocolViolation, match="instead of one"):
        host(*objects).vm(make.vm().vm_id)


def test_one_vm_is_the_one_that_was_asked_for() -> None:
    assert host(make.vm()).vm(make.vm().vm_id) == make.vm()
    with pytest.raises(ProtocolViolation, match="instead of"):
        host(make.vm()).vm(uuid4())


def test_two_disks_in_one_slot_are_an_error() -> None:
    assert host(make.drive()).disks(UUID(int=1)) == (make.drive(),)
    with pytest.raises(ProtocolViolation, match="2 disks in 1 slots"):
        host(make.drive(), make.drive(path="C:\\other.vhdx")).disks(UUID(int=1))
    with pytest.raises(ProtocolViolation, match="2 disks in 1 slots"):
        host(make.frozen(), make.frozen()).frozen_disks(UUID(int=1), uuid4())


def emitted(vm: VmInfo, **changes: object) -> SimpleNamespace:
    """The VM as a host emits it."""

    def wire(value: object) -> object:
        if isinstance(value, tuple):
            return list(value)
        return str(value) if isinstance(value, UUID | StrEnum) else value

    properties = {pascal_case(field.name): wire(getattr(vm, field.name)) for field in fields(vm)}
    return SimpleNamespace(type_names=["Hvps.VmInfo"], properties={**properties, **changes})


@pytest.mark.parametrize("change", [{"Name": None}, {"State": "odd"}, {"UptimeSeconds": -1}])
def test_a_vm_that_cannot_be_read_does_not_hide_the_others(change: dict[str, object]) -> None:
    good, bad = make.vm(), make.vm(vm_id=uuid4())
    items = [emitted(bad, **change), emitted(good)]
    session = SimpleNamespace(run=lambda *arguments, **more: iter(items))
    runner = OperationRunner(SimpleNamespace(name="HV01"), session, None)  # type: ignore[arg-type]
    vms, problems = HyperVHost(runner).list_vms()
    assert vms == (good,)
    (problem,) = problems
    assert isinstance(problem, ProtocolViolation)
    assert str(bad.vm_id) in str(problem)
    with pytest.raises(ProtocolViolation):
        HyperVHost(runner).vms()

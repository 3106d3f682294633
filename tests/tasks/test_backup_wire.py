"""Backups over real WSMan and PSRP, answered by the builtin engine and by real PowerShell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.units import MIB
from tests.host.jea_kit import write_kit
from tests.tasks.wire import WireWorld, full_and_increments


def test_the_builtin_engine_carries_full_and_increments(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    full_and_increments(world, rounds=3)
    world.close()


def test_real_powershell_carries_full_and_increments(tmp_path: Path, pwsh: Path) -> None:
    world = WireWorld(tmp_path, engine="powershell")
    full_and_increments(world, rounds=1, sizes=(3 * MIB,))
    world.close()


@pytest.mark.parametrize("knob", ["new_id_of_freeze", "frozen_id_of_last_point", "info_without_id"])
@pytest.mark.parametrize("engine", ["builtin", "powershell"])
def test_increments_from_ids_of_reference_points(
    tmp_path: Path, engine: str, knob: str, request: pytest.FixtureRequest
) -> None:
    if engine == "powershell":
        request.getfixturevalue("pwsh")
    world = WireWorld(tmp_path, engine=engine)
    world.model.set_knob(knob, True)
    full_and_increments(world, rounds=1, sizes=(3 * MIB,), proved_builds=("10.0.20348.2700:reference",))
    world.close()


def test_a_jea_endpoint_carries_full_and_increments(tmp_path: Path, pwsh: Path) -> None:
    world = WireWorld(tmp_path, engine="powershell", jea=write_kit(tmp_path / "hvps"))
    full_and_increments(world, rounds=1, sizes=(3 * MIB,))
    world.close()


def test_a_reply_that_comes_twice_changes_no_answer(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    vm_id = world.vm(disks=(1 * MIB,))
    world.model.checkpoints.create(vm_id)
    world.model.set_knob("reply_bytes", 1)  # one object in each reply
    with world.connect(uuid4()) as host:
        asks: tuple[Callable[[], object], ...] = (
            lambda: host.vm(vm_id).vm_id,
            lambda: host.disks(vm_id),
            lambda: host.checkpoints(vm_id),
            lambda: host.definition(vm_id),
        )
        answers = [ask() for ask in asks]
        for ask, answer in zip(asks, answers, strict=True):
            world.server.faults.arm("reply_twice")
            assert ask() == answer
    assert world.server.faults.fired["reply_twice"] == len(asks)
    world.close()

"""Backups over real WSMan and PSRP, answered by the builtin engine and by real PowerShell."""

from __future__ import annotations

from pathlib import Path

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

"""Backups over real WSMan and PSRP, answered by the builtin engine and by real PowerShell."""

from __future__ import annotations

from pathlib import Path

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


def test_a_jea_endpoint_carries_full_and_increments(tmp_path: Path, pwsh: Path) -> None:
    world = WireWorld(tmp_path, engine="powershell", jea=write_kit(tmp_path / "hvps"))
    full_and_increments(world, rounds=1, sizes=(3 * MIB,))
    world.close()

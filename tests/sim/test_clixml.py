"""Text on the wire: both engines carry the same names, escaped as PowerShell does it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvpsbridge.contract.results import Consistency
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.engines.clixml import escape
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.units import MIB
from tests.connections import basic

NAMES = (
    "web_xprod_01",
    "_x000A_",
    "_X000A_",
    "a_xb_XC_",
    "_x",
    "web_",
    "_x005F_x0041_",
    "<&>\"'",
    "Büro 東京",
    "moved \U0001f600 \U0010ffff",
    "tab\tbell\x07\x7f\x85",
    "two\r\nlines",
)
HALVES = ("half \ud83d", "\udc00 half", "\ude00\ud83d")

_HALF = re.compile("[\ud800-\udfff]")

SERIALIZE = r"""
foreach ($units in (Get-Content -Raw -LiteralPath $args[0] | ConvertFrom-Json)) {
    $text = -join ($units | ForEach-Object { [char]$_ })
    $xml = [System.Management.Automation.PSSerializer]::Serialize($text)
    [regex]::Match($xml, '(?s)<S>(.*)</S>').Groups[1].Value
}
"""


def test_text_is_escaped_as_by_powershell(pwsh: Path, tmp_path: Path) -> None:
    texts = NAMES + HALVES
    units = [memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H").tolist() for text in texts]
    (tmp_path / "names.json").write_text(json.dumps(units))
    (tmp_path / "serialize.ps1").write_text(SERIALIZE)
    answer = subprocess.run(
        [pwsh, "-NoProfile", "-File", tmp_path / "serialize.ps1", tmp_path / "names.json"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert answer.stdout.decode().splitlines() == [escape(text) for text in texts]


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    world = Model(tmp_path / "world", seed=1)
    yield world
    world.close()


def carried(model: Model, url: str) -> None:
    """Assert that VMs, and checkpoints that a client names, keep their names."""
    named = {model.setup.create_vm(name).vm_id: name for name in NAMES}
    for number, vm_id in enumerate(named):
        slot = Slot(ControllerType.SCSI, 0, 0)
        model.setup.add_disk(vm_id, slot, size_bytes=4 * MIB, path=f"C:\\{number}.vhdx")
    connection = basic(url)
    with HyperVHost.connect(connection) as host:
        # The client shows half a surrogate pair, which no text may have, as U+FFFD.
        halves = {model.setup.create_vm(name).vm_id: _HALF.sub("\ufffd", name) for name in HALVES}
        assert {vm.vm_id: vm.name for vm in host.list_vms()[0]} == named | halves
        for vm_id, name in named.items():
            assert host.create_checkpoint(vm_id, name, Consistency.CRASH).name == name
            assert [checkpoint.name for checkpoint in host.checkpoints(vm_id)] == [name]


def test_the_builtin_engine_carries_names_unchanged(model: Model) -> None:
    with SimulatedHost(model) as host:
        carried(model, host.url)


def test_powershell_carries_names_unchanged(model: Model, pwsh: Path) -> None:
    with SimulatedHost(model, engine="powershell") as host:
        carried(model, host.url)

"""The stand-in of the Hyper-V module, and what scripts ask of it, against Microsoft's pages."""

from __future__ import annotations

import re

import pytest

from hvpsbridge.sim.standin import types
from hvpsbridge.sim.standin.enums import ENUMS
from tests.documented.tables import MODULE, SCRIPTS, table
from tools.documented import generate

# Enumerations that no parameter takes: their names and numbers are from Microsoft's assemblies.
NO_PARAMETER = {
    "VMState",
    "VMOperationalStatus",
    "VirtualMachineType",
    "VMHeartbeatStatus",
    "VMBootSourceType",
    "VMNetworkAdapterVlanMode",
    "VhdFormat",
}
NAMES = {"ControllerType": {"PMEM"}}
# Documented outputs that nobody asks the stand-ins for.
OUTPUTS = {
    "Add-VMNetworkAdapter": {"Microsoft.HyperV.PowerShell.VMInternalNetworkAdapter"},
    "Add-VMScsiController": {"Microsoft.HyperV.PowerShell.ScsiController"},
    "Checkpoint-VM": {"Microsoft.HyperV.PowerShell.Snapshot"},
    "Get-VMNetworkAdapter": {"Microsoft.HyperV.PowerShell.VMInternalNetworkAdapter"},
    "Disable-VMIntegrationService": {"Microsoft.HyperV.PowerShell.IntegrationService"},
    "Enable-VMIntegrationService": {"Microsoft.HyperV.PowerShell.IntegrationService"},
    "Remove-VMNetworkAdapter": {"Microsoft.HyperV.PowerShell.VMInternalNetworkAdapter"},
    "Remove-VMDvdDrive": {"Microsoft.HyperV.PowerShell.DriveController"},
    "Set-VMNetworkAdapter": {"Microsoft.HyperV.PowerShell.VMInternalNetworkAdapter"},
    "Set-VMBios": {"Microsoft.HyperV.PowerShell.Bios"},
    "Set-VMFirmware": {"Microsoft.HyperV.Powershell.VMFirmware"},
    "Set-VMMemory": {"Microsoft.HyperV.PowerShell.Memory"},
    "Rename-VMSnapshot": {"VMSnapshot"},
    "Restore-VMSnapshot": {"VMSnapshot"},
}
COMMON = {"ErrorAction", "WarningAction", "Confirm", "WhatIf", "Verbose", "Debug", "ErrorVariable"}


def test_cmdlets_and_enumerations_without_a_page_are_known() -> None:
    assert set(table("cmdlets")["missing"]) == NO_PARAMETER


@pytest.mark.parametrize("full", sorted(ENUMS))
def test_enumerations_have_the_documented_names(full: str) -> None:
    name = full.rpartition(".")[2]
    if name not in NO_PARAMETER:
        assert set(ENUMS[full]) - set(table("cmdlets")["enums"][name]["names"]) == NAMES.get(name, set())
        assert set(table("cmdlets")["enums"][name]["names"]) <= set(ENUMS[full])


def test_cmdlets_return_classes_of_the_stand_ins() -> None:
    """Members of these classes are not documented; see docs/hyperv-facts.md#cmdlet-shapes."""
    for name, facts in table("cmdlets")["cmdlets"].items():
        unknown = set(facts["outputs"]) - types.CLASSES.keys() - {"None"}
        assert unknown == OUTPUTS.get(name, set()), name


def declared(name: str) -> set[str]:
    """Parameters of a function of the stand-in."""
    for path in MODULE.glob("*.ps1"):
        text = path.read_text()
        block = re.search(rf"^function {name} \{{\n.*?^    param\((.*?)^    \)", text, re.M | re.S)
        if block is not None:
            return set(re.findall(r"[\])] \$(\w+)", block[1]))
    # Made from one text, with additions.
    text = (MODULE / "Hardware.ps1").read_text()
    (common,) = re.findall(r"^    param\(\n([^@]*SNAPSHOT.*?)^    \)", text, re.M | re.S)
    (snapshot,) = re.findall(r"OfSnapshot = @'\n(.*?)'@", text, re.S)
    extra = re.search(rf"^    '{name}' += '(.*\$.*)'$", text, re.M)
    added = ("" if name == "Get-VMSecurity" else snapshot) + (extra[1] if extra else "")
    return set(re.findall(r"[\])] \$(\w+)", common + added))


def test_the_stand_in_takes_no_parameter_that_is_not_documented() -> None:
    for name, facts in table("cmdlets")["cmdlets"].items():
        documented = set(facts["parameters"])
        for parameter in facts["parameters"].values():
            documented.update(parameter.get("aliases", ()))
        assert declared(name) <= documented | COMMON, name


def test_scripts_use_parameters_that_every_release_has() -> None:
    seen = set()
    for path in sorted(SCRIPTS.rglob("*.ps1")):
        for call in re.finditer(r"Hyper-V\\(\w+-\w+)([^|;\n)]*)", path.read_text()):
            facts = table("cmdlets")["cmdlets"][call[1]]
            assert "not_in" not in facts, call[1]
            for parameter in set(re.findall(r" -(\w+)", call[2])) - COMMON:
                assert "not_in" not in facts["parameters"][parameter], f"{call[1]} -{parameter}"
                seen.add(parameter)
    assert {"VM", "VMSnapshot", "Id", "Path"} <= seen


def test_every_cmdlet_of_the_stand_in_has_a_row() -> None:
    """Else the tables are older than the stand-in: run tools.documented.generate."""
    assert set(generate.exported(generate.MODULE)) <= table("cmdlets")["cmdlets"].keys()

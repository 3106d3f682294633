"""The list of VMs with objects that the simulated host does not make, in a real PowerShell engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.host.scripts import script_text

# A module with three VMs and room for what goes wrong with the second.
MODULE = """
function Get-VM {
    [CmdletBinding()]
    param([guid] $Id)
    foreach ($number in 1..3) {
        $vm = [pscustomobject]@{
            Id = [guid] "00000000-0000-0000-0000-00000000000$number"; Name = "vm$number"; State = 2
            OperationalStatus = @(2); Generation = 2; Version = '10.0'; CheckpointType = 3
            ParentSnapshotId = $null; ReplicationMode = 0; IsClustered = $false
            ConfigurationLocation = 'C:\\'; SnapshotFileLocation = 'C:\\'
            Uptime = [TimeSpan]::Zero; ProcessorCount = 1; MemoryStartup = 1
        }
        if ($number -eq 2) {
            #TROUBLE#
        }
        $vm
    }
}
function Get-VMSecurity { param($VM) [pscustomobject]@{ Shielded = $false; TpmEnabled = $false } }
"""


@pytest.mark.parametrize(
    ("trouble", "listed"),
    [
        ("$vm.OperationalStatus = @('odd')", ["vm1", "vm3"]),
        ("$vm.ParentSnapshotId = 'odd'", ["vm1", "vm3"]),
        ("Write-Error 'its configuration is missing'; continue", ["vm1", "vm3"]),
        ("throw 'VMMS has ended'", ["vm1"]),
    ],
)
def test_an_error_about_one_vm_comes_after_those_that_can_be_listed(
    pwsh: Path, tmp_path: Path, trouble: str, listed: list[str]
) -> None:
    module = tmp_path / "Hyper-V"
    module.mkdir()
    (module / "Hyper-V.psm1").write_text(MODULE.replace("#TROUBLE#", trouble))
    (module / "Hyper-V.psd1").write_text(
        "@{ ModuleVersion = '2.0.0.0'; RootModule = 'Hyper-V.psm1'; FunctionsToExport = '*' }"
    )
    script = tmp_path / "listing.ps1"
    script.write_text(script_text(OPERATIONS["Get-HvpsVm"]))
    command = f"try {{ & '{script}' | ForEach-Object {{ $_.Name }} }} catch {{ $_.FullyQualifiedErrorId }}"
    done = subprocess.run(
        [str(pwsh), "-NoProfile", "-Command", command],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PSModulePath": str(tmp_path)},
    )
    *names, error_id = done.stdout.split()
    assert names == listed
    assert error_id.partition(",")[0] == "Hvps.Unexpected"

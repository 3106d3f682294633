"""The stand-in modules in a real PowerShell engine: declared parameters, flattening, refusals."""
# ruff: noqa: E501  (PowerShell inside strings reads better unwrapped)

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.sim.model_service import ModelService
from hvpsbridge.units import MIB
from tools.documented.generate import TABLES

SLOT = Slot(ControllerType.SCSI, 0, 0)

CMDLETS = json.loads((TABLES / "cmdlets.json").read_text(encoding="utf-8"))["cmdlets"]
EXACT = (
    *("Get-VM", "Get-VMHost", "Get-VMHardDiskDrive", "Get-VHD", "Get-VMSnapshot"),
    *("Checkpoint-VM", "Remove-VMSnapshot", "Rename-VMSnapshot"),
)
# Documented parameters without -WhatIf and -Confirm; those of CIM as its pages list them.
PARAMETERS: dict[str, set[str]] = {
    **{name: set(CMDLETS[name]["parameters"]) - {"WhatIf", "Confirm"} for name in EXACT},
    "Get-CimClass": {
        "ClassName",
        "Namespace",
        "MethodName",
        "PropertyName",
        "QualifierName",
        "OperationTimeoutSec",
        "ComputerName",
        "CimSession",
    },
    "Get-CimAssociatedInstance": {
        "InputObject",
        "Association",
        "ResultClassName",
        "Namespace",
        "KeyOnly",
        "ResourceUri",
        "OperationTimeoutSec",
        "ComputerName",
        "CimSession",
    },
    "Get-CimInstance": {
        "ClassName",
        "InputObject",
        "Query",
        "Namespace",
        "Filter",
        "Property",
        "KeyOnly",
        "QueryDialect",
        "Shallow",
        "OperationTimeoutSec",
        "ResourceUri",
        "ComputerName",
        "CimSession",
    },
    "Invoke-CimMethod": {
        "InputObject",
        "ClassName",
        "Query",
        "MethodName",
        "Arguments",
        "Namespace",
        "QueryDialect",
        "ResourceUri",
        "OperationTimeoutSec",
        "ComputerName",
        "CimSession",
    },
}
ALIASES = {
    (name, parameter): alias
    for name in EXACT
    for parameter, facts in CMDLETS[name]["parameters"].items()
    if parameter in PARAMETERS[name]
    for alias in facts.get("aliases", ())
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    world = Model(tmp_path_factory.mktemp("world"), seed=1)
    yield world
    world.close()


@pytest.fixture(scope="module")
def vm_id(model: Model) -> UUID:
    vm = model.setup.create_vm("it's [a] $test", notes="two\nlines")
    model.setup.add_disk(vm.vm_id, SLOT, size_bytes=8 * MIB)
    return vm.vm_id


@pytest.fixture(scope="module")
def service(model: Model) -> Iterator[ModelService]:
    with ModelService(model) as served:
        yield served


def ask(pwsh: Path, service: ModelService, script: str, **variables: str) -> Any:
    """What the script's one object is, as JSON."""
    whole = f"$ErrorActionPreference = 'Stop'; Set-StrictMode -Version 3.0\n& {{ {script} }} | ConvertTo-Json -Depth 4 -Compress"
    done = subprocess.run(
        [str(pwsh), "-NoProfile", "-Command", whole],
        env={**os.environ, **service.environment(), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.returncode, done.stderr
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_commands_declare_the_documented_parameters_and_no_others(pwsh: Path, service: ModelService) -> None:
    declared = ask(
        pwsh,
        service,
        """
        $all = @{}; $common = [Management.Automation.Cmdlet]::CommonParameters + [Management.Automation.Cmdlet]::OptionalCommonParameters
        foreach ($name in $env:NAMES.Split(',')) {
            $found = (Get-Command $name).Parameters
            $all[$name] = @{ names = @($found.Keys | Where-Object { $_ -notin $common }); aliases = @{} }
            foreach ($one in $found.Values) { $all[$name].aliases[$one.Name] = @($one.Aliases) }
        }
        $all""",
        NAMES=",".join(PARAMETERS),
    )
    for command, expected in PARAMETERS.items():
        assert set(declared[command]["names"]) == expected, command
    for (command, parameter), alias in ALIASES.items():
        assert alias in declared[command]["aliases"][parameter]


def test_a_vm_has_real_enums_and_types(pwsh: Path, service: ModelService, vm_id: UUID) -> None:
    said = ask(
        pwsh,
        service,
        """$v = Hyper-V\\Get-VM -Id $env:VM_ID; @{
        type = $v.GetType().FullName; state = [string] $v.State; number = [int] $v.State; status = $v.OperationalStatus.GetType().FullName
        id = $v.Id.GetType().Name; uptime = $v.Uptime.GetType().Name; created = [string] $v.CreationTime.Kind; name = $v.Name
        parent = $null -eq $v.ParentSnapshotId; drives = $v.HardDrives[0].GetType().FullName; startup = $v.MemoryStartup.GetType().Name }""",
        VM_ID=str(vm_id),
    )
    assert said == {
        "type": "Microsoft.HyperV.PowerShell.VirtualMachine",
        "state": "Running",
        "number": 2,
        "status": "Microsoft.HyperV.PowerShell.VMOperationalStatus[]",
        "id": "Guid",
        "uptime": "TimeSpan",
        "created": "Local",
        "name": "it's [a] $test",
        "parent": True,
        "drives": "Microsoft.HyperV.PowerShell.HardDiskDrive",
        "startup": "Int64",
    }


def test_a_live_object_flattens_over_psrp_as_hyper_vs_own_does(
    pwsh: Path, service: ModelService, vm_id: UUID
) -> None:
    """Depth 1, as remoting serializes: an enum property is plain text, a note property keeps its number."""
    said = ask(
        pwsh,
        service,
        """$v = Hyper-V\\Get-VM -Id $env:VM_ID
        @{ live = [Management.Automation.PSSerializer]::Serialize($v, 1)
           note = [Management.Automation.PSSerializer]::Serialize([pscustomobject]@{ State = $v.State }, 1) }""",
        VM_ID=str(vm_id),
    )
    assert '<S N="State">Running</S>' in said["live"]
    assert f'<G N="Id">{vm_id}</G>' in said["live"]
    assert "<I32>2</I32>" in said["note"]


def test_what_is_missing_is_a_non_terminating_error_with_the_documented_id(
    pwsh: Path, service: ModelService, vm_id: UUID
) -> None:
    said = ask(
        pwsh,
        service,
        """$ErrorActionPreference = 'Continue'
        $null = Hyper-V\\Get-VM -Id ([guid]::Empty) -ErrorVariable vm -ErrorAction SilentlyContinue
        $null = Hyper-V\\Get-VHD -Path 'C:\\no.vhdx' -ErrorVariable vhd -ErrorAction SilentlyContinue
        $null = Hyper-V\\Get-VMSnapshot -VM (Hyper-V\\Get-VM -Id $env:VM_ID) -SnapshotType Recovery -ErrorVariable none -ErrorAction SilentlyContinue
        $quiet = @(Hyper-V\\Get-VMSnapshot -VM (Hyper-V\\Get-VM -Id $env:VM_ID)).Count
        $null = Get-CimInstance -Namespace root/virtualization/v2 -ClassName Msvm_Nothing -ErrorVariable cim -ErrorAction SilentlyContinue
        $null = Get-WinEvent -FilterHashtable @{ LogName = 'Microsoft-Windows-Hyper-V-Worker-Admin'; Id = 3216 } -ErrorVariable log -ErrorAction SilentlyContinue
        @{ vm = $vm[0].FullyQualifiedErrorId; category = [string] $vm[0].CategoryInfo.Category; exception = $vm[0].Exception.GetType().FullName
           vhd = $vhd[0].FullyQualifiedErrorId; none = [string] $none[0].CategoryInfo.Category; quiet = $quiet
           cim = $cim[0].FullyQualifiedErrorId; log = $log[0].FullyQualifiedErrorId }""",
        VM_ID=str(vm_id),
    )
    assert said["vm"].startswith("InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM")
    assert said["category"] == "InvalidArgument"
    assert said["exception"] == "Microsoft.HyperV.PowerShell.VirtualizationException"
    assert said["vhd"].startswith("ObjectNotFound,Microsoft.Vhd.PowerShell.Cmdlets.GetVHD")
    assert said["none"] == "ObjectNotFound"
    assert said["quiet"] == 0
    assert said["cim"].startswith(
        "HRESULT 0x80041010,Microsoft.Management.Infrastructure.CimCmdlets.GetCimInstanceCommand"
    )
    assert said["log"].startswith("NoMatchingEventsFound,")


def test_a_property_or_argument_that_does_not_exist_is_an_error(
    pwsh: Path, service: ModelService, vm_id: UUID
) -> None:
    said = ask(
        pwsh,
        service,
        """$n = 'root/virtualization/v2'; $all = @{}
        $vm = Get-CimInstance -Namespace $n -ClassName Msvm_ComputerSystem -Filter "Name='$($env:VM_ID.ToUpper())'"
        $service = Get-CimInstance -Namespace $n -ClassName Msvm_VirtualSystemSnapshotService
        $bad = '<INSTANCE CLASSNAME="Msvm_VirtualSystemSnapshotSettingData"><PROPERTY NAME="ConsistencyLevel" TYPE="uint16"><VALUE>2</VALUE></PROPERTY></INSTANCE>'
        $all.type = (Invoke-CimMethod -InputObject $service -MethodName CreateSnapshot -Arguments @{ AffectedSystem = $vm; SnapshotSettings = $bad; SnapshotType = [uint16] 32768 }).ReturnValue
        try { $vm.Nothing; $all.property = '' } catch { $all.property = $_.FullyQualifiedErrorId }
        try { Invoke-CimMethod -InputObject $service -MethodName CreateSnapshot -Arguments @{ Nothing = 1 }; $all.argument = '' } catch { $all.argument = $_.FullyQualifiedErrorId }
        try { Hyper-V\\Get-VM -Nothing 1; $all.parameter = '' } catch { $all.parameter = $_.FullyQualifiedErrorId }
        try { Get-CimAssociatedInstance -InputObject $vm -Association Msvm_Nothing; $all.tie = '' } catch { $all.tie = $_.FullyQualifiedErrorId }
        try { Get-CimInstance -Namespace $n -ClassName Msvm_ComputerSystem -Filter 'Nothing=1'; $all.filter = '' } catch { $all.filter = $_.FullyQualifiedErrorId }
        $all""",
        VM_ID=str(vm_id),
    )
    assert said["type"] == 32773
    assert said["property"] == "PropertyNotFoundStrict"
    assert said["argument"].startswith("HRESULT 0x80041008,")
    assert said["parameter"].startswith("NamedParameterNotFound")
    assert said["tie"].startswith("HRESULT 0x80041010,")
    assert said["filter"].startswith("HRESULT 0x80041017,")


def test_wmi_asks_for_changes_as_the_driver_does(
    pwsh: Path, service: ModelService, model: Model, vm_id: UUID
) -> None:
    model.knobs.over_report = 0.0
    first = model.jobs.wait(model.checkpoints.create(vm_id))
    path = model.disks.layer(model.checkpoints.get(UUID(first.results["checkpoint"])).disks[str(SLOT)]).path
    base = model.driver.tracking_state(path)[2]
    model.guests.write(vm_id, SLOT, 0, bytes(512))
    second = model.jobs.wait(model.checkpoints.create(vm_id))
    frozen = model.disks.layer(
        model.checkpoints.get(UUID(second.results["checkpoint"])).disks[str(SLOT)]
    ).path
    said = ask(
        pwsh,
        service,
        """$s = Get-CimInstance -Namespace root/virtualization/v2 -ClassName Msvm_ImageManagementService
        $r = Invoke-CimMethod -InputObject $s -MethodName GetVirtualDiskChanges -Arguments @{
            Path = $env:DISK; LimitId = $env:BASE; TargetSnapshotId = ''; ByteOffset = 0UL; ByteLength = 8388608UL }
        @{ code = $r.ReturnValue; done = $r.ProcessedByteLength; at = @($r.ChangedByteOffsets); length = @($r.ChangedByteLengths)
           type = $r.ChangedByteOffsets.GetType().Name; job = $null -eq $r.Job }""",
        DISK=frozen,
        BASE=str(base),
    )
    assert said == {"code": 0, "done": 8 * MIB, "at": [0], "length": [32768], "type": "UInt64[]", "job": True}


def test_importing_the_module_is_fast(pwsh: Path, service: ModelService) -> None:
    """Well below a second; counted in processor time, which a busy machine does not stretch."""
    said = ask(
        pwsh,
        service,
        """$p = [Diagnostics.Process]::GetCurrentProcess(); $before = $p.TotalProcessorTime
        Import-Module Hyper-V -MinimumVersion 2.0
        $p.Refresh(); @{ ms = ($p.TotalProcessorTime - $before).TotalMilliseconds }""",
    )
    assert 0 < said["ms"] < 5000


def test_properties_that_were_not_asked_for_are_null(pwsh: Path, service: ModelService, vm_id: UUID) -> None:
    namespace = "-Namespace root/virtualization/v2"
    name = f"Name='{str(vm_id).upper()}'"
    shown = ask(
        pwsh,
        service,
        f"""
        $class = @{{ Namespace = 'root/virtualization/v2'; ClassName = 'Msvm_ComputerSystem'; Filter = "{name}" }}
        $rows = @(
            Get-CimInstance @class
            Get-CimInstance @class -Property ElementName
            Get-CimInstance @class -KeyOnly
            Get-CimInstance {namespace} -Query "SELECT ElementName FROM Msvm_ComputerSystem WHERE {name}"
            Get-CimAssociatedInstance (Get-CimInstance @class) -Association Msvm_SettingsDefineState -KeyOnly
        )
        ,@($rows | ForEach-Object {{ ,@($_.ElementName, $_.CimSystemProperties.Namespace) }})
        """,
    )
    rooted = "ROOT/virtualization/v2"
    named = ["it's [a] $test", rooted]
    assert shown == [named, named, [None, rooted], named, [None, rooted]]


def test_a_method_that_is_refused_has_no_other_out_parameter(
    pwsh: Path, service: ModelService, model: Model
) -> None:
    model.faults.arm_call("Msvm_VirtualSystemSnapshotService.CreateSnapshot", error="busy")
    shown = ask(
        pwsh,
        service,
        """
        $found = Get-CimInstance -Namespace root/virtualization/v2 -ClassName Msvm_VirtualSystemSnapshotService
        $result = Invoke-CimMethod -InputObject $found -MethodName CreateSnapshot -Arguments @{}
        ,@($result.PSObject.Properties | ForEach-Object { '{0}={1}' -f $_.Name, $_.Value })
        """,
    )
    assert shown == ["ReturnValue=32775", "PSComputerName="]

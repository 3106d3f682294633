<#
.SYNOPSIS
    All checkpoints of a VM, whoever made them.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.CheckpointInfo
      VmId          guid     id of the VM
      CheckpointId  guid     id
      Name          text     its name, or mark
      Kind          word     SnapshotType
      Created       time     when
      ParentId      guid?    checkpoint it stands on
      DiskPaths     text[]   frozen files
#>
[CmdletBinding()]
[OutputType('Hvps.CheckpointInfo')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Checkpoint.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    foreach ($snapshot in @(Get-HvpsSnapshot -Vm $vm)) {
        ConvertTo-HvpsCheckpointInfo -Snapshot $snapshot -VmId $VmId
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    Lists all checkpoints of a VM, those of other products included.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.CheckpointInfo
      VmId          guid     id of the VM
      CheckpointId  guid     id
      Name          text     name
      Kind          word     SnapshotType
      Created       time     creation time
      ParentId      guid?    parent checkpoint
      DiskPaths     text[]   frozen files
      NameError     text?    why a new one does not have the wanted name
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

<#
.SYNOPSIS
    Lists the disks of a checkpoint.
.DESCRIPTION
    See docs/hyperv-facts.md#frozen-files. No disk is attached, so change tracking is as a handle for information
    reports it (docs/hyperv-facts.md#tracking-handle); Get-HvpsDiskTracking asks the handle that reads.
.PARAMETER VmId
    Id of the VM.
.PARAMETER CheckpointId
    Id of a checkpoint of that VM.
.OUTPUTS
    Hvps.FrozenDisk
      VmId                guid     id of the VM
      CheckpointId        guid     id of the checkpoint
      ControllerType      word     kind
      ControllerNumber    int      number
      ControllerLocation  int      location
      Path                text     frozen file
      Chain               text[]   frozen file and its parents
      SizeBytes           int      virtual size
      LogicalSectorBytes  int      sector size
      DiskId              guid?    VirtualDiskId
      TrackingEnabled     bool     change tracking is on
      NewerChanges        bool     there were writes after RctId
      RctId               text?    MostRecentId
      TrackingCode        int      Windows's code if the handle does not report on tracking, else 0
#>
[CmdletBinding()]
[OutputType('Hvps.FrozenDisk')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [guid] $CheckpointId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Checkpoint.ps1"
#% include "lib/Chain.ps1"
#% include "lib/Reader.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $snapshot = Get-HvpsSnapshot -Vm $vm | Where-Object { $CheckpointId -eq [guid] $_.Id } | Select-Object -First 1
    if ($null -eq $snapshot) {
        throw (New-HvpsError -Id 'Hvps.CheckpointNotFound' -Message "checkpoint $CheckpointId does not exist")
    }
    Import-HvpsReader
    $drives = @(Hyper-V\Get-VMHardDiskDrive -VMSnapshot $snapshot -ErrorAction Stop |
            Where-Object { $null -ne $_ -and $_.Path -and $null -eq $_.DiskNumber })
    foreach ($drive in $drives) {
        $path = [string] $drive.Path
        $chain = @(Get-HvpsChain -Path $path)
        $facts = [Hvps.DiskQuery]::InfoOnlyFacts($path)
        $rctId = $null
        if ($facts.TrackingEnabled) {
            $rctId = $facts.RctId
        }
        [pscustomobject]@{
            PSTypeName         = 'Hvps.FrozenDisk'
            VmId               = ConvertTo-HvpsGuid -Value $VmId
            CheckpointId       = ConvertTo-HvpsGuid -Value $CheckpointId
            ControllerType     = Get-HvpsController -Drive $drive
            ControllerNumber   = [int] $drive.ControllerNumber
            ControllerLocation = [int] $drive.ControllerLocation
            Path               = $path
            Chain              = [string[]] @($chain | ForEach-Object { [string] $_.Path })
            SizeBytes          = [uint64] $chain[0].Size
            LogicalSectorBytes = [int] $chain[0].LogicalSectorSize
            DiskId             = ConvertTo-HvpsGuid -Value $chain[0].DiskIdentifier
            TrackingEnabled    = [bool] $facts.TrackingEnabled
            NewerChanges       = [bool] $facts.NewerChanges
            RctId              = $rctId
            TrackingCode       = [uint64] $facts.TrackingCode
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

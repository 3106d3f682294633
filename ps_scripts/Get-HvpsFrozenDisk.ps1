<#
.SYNOPSIS
    Lists the disks of a checkpoint, as their frozen handles report them.
.DESCRIPTION
    See docs/hyperv-facts.md#frozen-files.
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
      SizeBytes           int      virtual size, of the handle
      LogicalSectorBytes  int      of the handle
      DiskId              guid?    VirtualDiskId
      TrackingEnabled     bool     change tracking is on
      NewerChanges        bool     there were writes after RctId
      RctId               text?    MostRecentId
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
        $facts = [Hvps.DiskQuery]::Facts($path)
        $rctId = $null
        if ($facts.TrackingEnabled) {
            $rctId = [string] $facts.RctId
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
            SizeBytes          = [uint64] $facts.Size
            LogicalSectorBytes = [int] $facts.SectorSize
            DiskId             = ConvertTo-HvpsGuid -Value $chain[0].DiskIdentifier
            TrackingEnabled    = [bool] $facts.TrackingEnabled
            NewerChanges       = [bool] $facts.NewerChanges
            RctId              = $rctId
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

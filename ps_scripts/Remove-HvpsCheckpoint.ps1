<#
.SYNOPSIS
    Removes a recovery checkpoint; its merge continues in the background. One that is gone counts as removed.
.DESCRIPTION
    An id alone removes nothing: name and kind must be the expected ones (docs/hyperv-facts.md#snapshot-types).
.PARAMETER VmId
    Id of the VM.
.PARAMETER CheckpointId
    Id of a checkpoint of that VM.
.PARAMETER Name
    Its name; a checkpoint of another name or kind is left alone.
.PARAMETER JobSeconds
    How long to wait for the WMI job.
.OUTPUTS
    Hvps.Removal
      Removed  bool     false if it did not exist
#>
[CmdletBinding()]
[OutputType('Hvps.Removal')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [guid] $CheckpointId,
    [Parameter(Mandatory = $true)] [string] $Name,
    [Parameter(Mandatory = $true)] [int] $JobSeconds
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
try {
    $vm = Find-HvpsObject -Find { Get-HvpsWmiVm -VmId $VmId }
    $setting = $null
    if ($null -ne $vm) {
        $setting = Get-HvpsWmiCheckpoint -Vm $vm -CheckpointId $CheckpointId
    }
    $removed = $false
    if ($null -ne $setting) {
        if ($Name -cne [string] $setting.ElementName -or
            'Microsoft:Hyper-V:Snapshot:Recovery' -ne [string] $setting.VirtualSystemType) {
            $message = "checkpoint $CheckpointId is not the recovery checkpoint named $Name; it is left alone"
            throw (New-HvpsError -Id 'Hvps.BadRequest' -Message $message)
        }
        $parameters = @{
            Service   = 'Msvm_VirtualSystemSnapshotService'
            Method    = 'DestroySnapshot'
            Arguments = @{ AffectedSnapshot = $setting }
        }
        $result = Invoke-HvpsMethod @parameters
        $job = Wait-HvpsJob -Result $result -Seconds $JobSeconds -What 'the removal'
        if ($null -eq $job -and $null -ne (Get-HvpsWmiCheckpoint -Vm $vm -CheckpointId $CheckpointId)) {
            throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'the removal ended, but the checkpoint still exists')
        }
        $removed = $true
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.Removal'; Removed = $removed }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

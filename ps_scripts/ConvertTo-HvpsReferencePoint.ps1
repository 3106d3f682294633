<#
.SYNOPSIS
    Converts a checkpoint to a reference point; the checkpoint is gone and its children merge in the background.
.DESCRIPTION
    See docs/hyperv-facts.md#conversion.
.PARAMETER VmId
    Id of the VM.
.PARAMETER CheckpointId
    Id of a checkpoint of that VM.
.PARAMETER JobSeconds
    How long to wait for the WMI job.
.OUTPUTS
    Hvps.ReferencePointInfo
      VmId             guid     id of the VM
      InstanceId       text     InstanceID
      Kind             word     ReferencePointType
      Consistency      word     ConsistencyLevel
      DiskInstanceIds  text[]   storage allocations
      RctIds           text[]   RCT ids, parallel to DiskInstanceIds
#>
[CmdletBinding()]
[OutputType('Hvps.ReferencePointInfo')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [guid] $CheckpointId,
    [Parameter(Mandatory = $true)] [int] $JobSeconds
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/ReferencePoint.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsWmiVm -VmId $VmId
    $setting = Get-HvpsWmiCheckpoint -Vm $vm -CheckpointId $CheckpointId
    if ($null -eq $setting) {
        throw (New-HvpsError -Id 'Hvps.CheckpointNotFound' -Message "checkpoint $CheckpointId does not exist")
    }
    $before = @(Get-HvpsWmiReferencePoint -Vm $vm | ForEach-Object { [string] $_.InstanceID })
    $parameters = @{
        Service   = 'Msvm_VirtualSystemSnapshotService'
        Method    = 'ConvertToReferencePoint'
        Arguments = @{ AffectedSnapshot = $setting; ReferencePointSettings = '' }
    }
    $result = Invoke-HvpsMethod @parameters
    $job = Wait-HvpsJob -Result $result -Seconds $JobSeconds -What 'the conversion'
    $made = $null
    if ($null -ne $job) {
        $made = Get-HvpsAssociated -InputObject $job -ClassName Msvm_VirtualSystemReferencePoint `
            -Association Msvm_AffectedJobElement | Select-Object -First 1
    }
    elseif ($null -ne $result.ResultingReferencePoint) {
        $made = Get-CimInstance -InputObject $result.ResultingReferencePoint -ErrorAction Stop
    }
    if ($null -eq $made) {
        # The job was removed before it could be queried: a single new reference point must be the one.
        $new = @(Get-HvpsWmiReferencePoint -Vm $vm | Where-Object { $before -notcontains [string] $_.InstanceID })
        if ($new.Count -ne 1) {
            throw (New-HvpsError -Id 'Hvps.JobFailed' -Message "found $($new.Count) new reference points, not one")
        }
        $made = $new[0]
    }
    ConvertTo-HvpsReferencePointInfo -Instance $made -VmId $VmId
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

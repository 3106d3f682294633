<#
.SYNOPSIS
    Converts a checkpoint to a reference point; the checkpoint is gone and its children merge in the background.
.DESCRIPTION
    See docs/hyperv-facts.md#conversion. A reference point carries no mark: its RCT ids are all that shows later whose
    it is. One that lacks an expected id is therefore destroyed at once, while its job shows that it is ours. The
    result says which ids it had.
.PARAMETER VmId
    Id of the VM.
.PARAMETER CheckpointId
    Id of a checkpoint of that VM.
.PARAMETER RctIds
    Ids that the reference point must have, or it is destroyed.
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
    [Parameter()] [string[]] $RctIds,
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
    $parameters = @{
        Service   = 'Msvm_VirtualSystemSnapshotService'
        Method    = 'ConvertToReferencePoint'
        Arguments = @{ AffectedSnapshot = $setting }
    }
    $result = Invoke-HvpsMethod @parameters
    $job = Wait-HvpsJob -Result $result -Seconds $JobSeconds -What 'the conversion'
    $parameters = @{
        Job       = $job
        # A method that started a job may not have it.
        Reference = $(if ($null -eq $job) { $result.ResultingReferencePoint })
        ClassName = 'Msvm_VirtualSystemReferencePoint'
    }
    $made = Get-HvpsResult @parameters
    if ($null -eq $made) {
        # A new reference point may be anybody's. The next clean-up finds ours by its RCT ids.
        $message = 'the conversion ended, but its job was gone before it named the reference point'
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message $message)
    }
    ConvertTo-HvpsReferencePointInfo -Instance $made -VmId $VmId
    if (-not (Test-HvpsRctId -Instance $made -RctIds $RctIds)) {
        try {
            $null = Remove-HvpsWmiReferencePoint -Instance $made -Seconds $JobSeconds
        }
        catch {
            # It stays, and the client names it.
            Write-Verbose -Message ([string] $_)
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

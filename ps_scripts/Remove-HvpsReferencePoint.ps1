<#
.SYNOPSIS
    Destroys a reference point that has the expected RCT ids. One that is gone counts as removed.
.PARAMETER VmId
    Id of the VM.
.PARAMETER InstanceId
    InstanceID of the reference point.
.PARAMETER RctIds
    Ids that it must have, or it is left alone.
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
    [Parameter(Mandatory = $true)] [string] $InstanceId,
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
    $found = Find-HvpsObject -Find {
        $vm = Get-HvpsWmiVm -VmId $VmId
        Get-HvpsWmiReferencePoint -Vm $vm | Where-Object { $InstanceId -eq [string] $_.InstanceID }
    }
    $removed = $false
    if ($null -ne $found) {
        if (-not (Test-HvpsRctId -Instance $found -RctIds $RctIds)) {
            $message = "reference point $InstanceId does not have the expected RCT ids; it is left alone"
            throw (New-HvpsError -Id 'Hvps.BadRequest' -Message $message)
        }
        $removed = Remove-HvpsWmiReferencePoint -Instance $found -Seconds $JobSeconds
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.Removal'; Removed = $removed }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    Destroys a reference point by its InstanceID. One that is gone counts as removed.
.PARAMETER VmId
    Id of the VM.
.PARAMETER InstanceId
    InstanceID of the reference point.
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
    [Parameter(Mandatory = $true)] [int] $JobSeconds
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/ReferencePoint.ps1"
try {
    $found = $null
    try {
        $vm = Get-HvpsWmiVm -VmId $VmId
        $found = Get-HvpsWmiReferencePoint -Vm $vm | Where-Object { $InstanceId -eq [string] $_.InstanceID }
    }
    catch {
        if ($_.FullyQualifiedErrorId -notlike 'Hvps.VmNotFound*') {
            throw
        }
    }
    $removed = $false
    if ($null -ne $found) {
        $parameters = @{
            Service   = 'Msvm_VirtualSystemReferencePointService'
            Method    = 'DestroyReferencePoint'
            Arguments = @{ AffectedReferencePoint = $found }
        }
        $result = Invoke-HvpsMethod @parameters
        # 32779 and 32789: it was destroyed by something else meanwhile.
        if (@(32779, 32789) -notcontains [int] $result.ReturnValue) {
            $null = Wait-HvpsJob -Result $result -Seconds $JobSeconds -What 'the removal'
            $removed = $true
        }
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.Removal'; Removed = $removed }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

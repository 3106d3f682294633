<#
.SYNOPSIS
    Lists all reference points of a VM, those of other products included.
.PARAMETER VmId
    Id of the VM.
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
    [Parameter(Mandatory = $true)] [guid] $VmId
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
    foreach ($instance in @(Get-HvpsWmiReferencePoint -Vm $vm)) {
        ConvertTo-HvpsReferencePointInfo -Instance $instance -VmId $VmId
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

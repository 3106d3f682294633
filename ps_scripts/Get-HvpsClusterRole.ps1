<#
.SYNOPSIS
    Shows the cluster resource that starts and stops a VM.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.ClusterRole
      VmId   guid     id of the VM
      Name   text     of the resource
      State  word     what the cluster does with the VM
#>
[CmdletBinding()]
[OutputType('Hvps.ClusterRole')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Cluster.ps1"
try {
    #% include "lib/HyperV.ps1"
    ConvertTo-HvpsRole -Resource (Get-HvpsRoleResource -VmId $VmId) -VmId $VmId
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    VMs of the host with the facts that decide whether they can be backed up.
.PARAMETER VmId
    Id of one VM; all VMs without it.
.OUTPUTS
#>
[CmdletBinding()]
[OutputType('Hvps.VmInfo')]
param(
    [Nullable[guid]] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/VmFacts.ps1"
try {
    #% include "lib/HyperV.ps1"
    if ($null -ne $VmId) {
        $vms = @(Get-HvpsVmObject -VmId $VmId)
    }
    else {
        $vms = @(Hyper-V\Get-VM -ErrorAction Stop | Where-Object { $null -ne $_ })
    }
    $forks = Get-HvpsForkEvent
    foreach ($vm in $vms) {
        ConvertTo-HvpsVmInfo -Vm $vm -ForkEvents $forks
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

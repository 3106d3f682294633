<#
.SYNOPSIS
    Whether a VM runs, and what the heartbeat of its guest says.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.VmHeartbeat
      VmId       guid  its id
      Running    bool  whether it runs
      Heartbeat  int?  VMHeartbeatStatus number; null if there is none
#>
[CmdletBinding()]
[OutputType('Hvps.VmHeartbeat')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $heartbeat = $null
    if ($null -ne $vm.Heartbeat) {
        $heartbeat = [int] $vm.Heartbeat
    }
    [pscustomobject]@{
        PSTypeName = 'Hvps.VmHeartbeat'
        VmId       = ConvertTo-HvpsGuid -Value $VmId
        Running    = [int] $vm.State -eq 2
        Heartbeat  = $heartbeat
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

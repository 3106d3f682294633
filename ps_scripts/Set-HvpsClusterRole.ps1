<#
.SYNOPSIS
    Takes the cluster resource that starts and stops a VM offline, or brings it online, and waits for that.
.DESCRIPTION
    A resource that is there already is left alone. The resource of the VM's configuration stays online, so that
    the VM stays registered on the host.
.PARAMETER VmId
    Id of the VM.
.PARAMETER Online
    Bring it online, which starts the VM; without it, take it offline.
.PARAMETER Seconds
    How long to wait, seconds; 120 without it.
.OUTPUTS
    Hvps.ClusterRole
      VmId   guid     id of the VM
      Name   text     of the resource
      State  word     what the cluster does with the VM
#>
[CmdletBinding()]
[OutputType('Hvps.ClusterRole')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [bool] $Online,
    [int] $Seconds = 120
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Cluster.ps1"
try {
    #% include "lib/HyperV.ps1"
    $wanted = if ($Online) { 'online' } else { 'offline' }
    $deadline = [DateTime]::UtcNow.AddSeconds($Seconds)
    $asked = $false
    while ($true) {
        $resource = Get-HvpsRoleResource -VmId $VmId
        $role = ConvertTo-HvpsRole -Resource $resource -VmId $VmId
        if ($role.State -eq $wanted) {
            $role
            break
        }
        if ($asked -and $role.State -ne 'pending') {
            $message = 'cluster resource {0} is {1} and not {2}; see the event logs of the cluster' -f @(
                $role.Name, $role.State, $wanted)
            throw (New-HvpsError -Id 'Hvps.JobFailed' -Message $message)
        }
        if ([DateTime]::UtcNow -gt $deadline) {
            $message = 'cluster resource {0} is {1} and not {2} after {3} s' -f @(
                $role.Name, $role.State, $wanted, $Seconds)
            throw (New-HvpsError -Id 'Hvps.JobTimedOut' -Message $message)
        }
        if (-not $asked -and $role.State -ne 'pending') {
            try {
                if ($Online) {
                    $null = Start-ClusterResource -InputObject $resource -Wait 60 -ErrorAction Stop
                }
                else {
                    $null = Stop-ClusterResource -InputObject $resource -Wait 60 -ErrorAction Stop
                }
                $asked = $true
                continue
            }
            catch {
                # Its group may be locked, as while the VM is migrated.
                if ([string] $_.CategoryInfo.Category -ne 'ResourceBusy') {
                    throw
                }
            }
        }
        Start-Sleep -Milliseconds 300
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    Lists unfinished WMI jobs that affect a VM.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.JobInfo
      VmId         guid     id of the VM
      InstanceId   text     InstanceID
      JobType      int      JobType
      State        int      JobState
      Percent      int      PercentComplete
      Description  text     in the language of the host
#>
[CmdletBinding()]
[OutputType('Hvps.JobInfo')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsWmiVm -VmId $VmId
    $jobs = @(Get-HvpsAssociated -InputObject $vm -ClassName Msvm_ConcreteJob -Association Msvm_AffectedJobElement)
    foreach ($job in $jobs) {
        if ($HvpsJobGoing -contains [int] $job.JobState) {
            [pscustomobject]@{
                PSTypeName  = 'Hvps.JobInfo'
                VmId        = ConvertTo-HvpsGuid -Value $VmId
                InstanceId  = [string] $job.InstanceID
                JobType     = [int] $job.JobType
                State       = [int] $job.JobState
                Percent     = [int] $job.PercentComplete
                Description = [string] $job.Description
            }
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

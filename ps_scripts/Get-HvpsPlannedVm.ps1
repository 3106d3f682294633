<#
.SYNOPSIS
    Lists the planned VMs of the host, which no cmdlet shows.
.OUTPUTS
    Hvps.PlannedVm
      VmId   guid     its id
      Name   text     its name
      Notes  text     its notes; of a restore that has not ended, its mark
#>
[CmdletBinding()]
[OutputType('Hvps.PlannedVm')]
param()
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/PlannedVm.ps1"
try {
    foreach ($planned in @(Get-HvpsPlanned)) {
        $setting = Get-HvpsPlannedSetting -Planned $planned
        [pscustomobject]@{
            PSTypeName = 'Hvps.PlannedVm'
            VmId       = ([guid] $planned.Name).ToString('d')
            Name       = [string] $setting.ElementName
            Notes      = Get-HvpsNote -Setting $setting
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

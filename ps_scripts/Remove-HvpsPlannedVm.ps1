<#
.SYNOPSIS
    Removes a planned VM that a restore made. One that is gone counts as removed.
.DESCRIPTION
    An id alone removes nothing: a live migration to this host has a planned VM, too.
.PARAMETER PlannedId
    Id of the planned VM.
.PARAMETER Name
    Its name; one of another name is left alone.
.PARAMETER Mark
    Its notes; one with other notes is left alone. Without it, one that has notes.
.OUTPUTS
    Hvps.Removal
      Removed  bool     false if it did not exist
#>
[CmdletBinding()]
[OutputType('Hvps.Removal')]
param(
    [Parameter(Mandatory = $true)] [guid] $PlannedId,
    [Parameter(Mandatory = $true)] [string] $Name,
    [string] $Mark
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/PlannedVm.ps1"
try {
    $planned = @(Get-HvpsPlanned -PlannedId $PlannedId)
    if ($planned.Count -gt 0) {
        $setting = Get-HvpsPlannedSetting -Planned $planned[0]
        if ($Name -cne [string] $setting.ElementName -or $Mark -cne (Get-HvpsNote -Setting $setting)) {
            $message = "planned VM $PlannedId is not one that this restore was making; it is left alone"
            throw (New-HvpsError -Id 'Hvps.BadRequest' -Message $message)
        }
        Remove-HvpsPlanned -Planned $planned[0]
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.Removal'; Removed = $planned.Count -gt 0 }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

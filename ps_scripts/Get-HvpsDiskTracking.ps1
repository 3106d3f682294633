<#
.SYNOPSIS
    Reports a frozen disk's size and change tracking, as the handle that reads it sees them.
.DESCRIPTION
    The disk is attached on first use and stays attached (docs/hyperv-facts.md#tracking-handle).
.PARAMETER Path
    File on the host.
.OUTPUTS
    Hvps.DiskTracking
      SizeBytes           int      virtual size
      LogicalSectorBytes  int      sector size
      TrackingEnabled     bool     change tracking is on
      NewerChanges        bool     there were writes after RctId
      RctId               text?    MostRecentId
      TrackingCode        int      Windows's code if the handle does not report on tracking, else 0
#>
[CmdletBinding()]
[OutputType('Hvps.DiskTracking')]
param(
    [Parameter(Mandatory = $true)] [string] $Path
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
try {
    Import-HvpsReader
    $facts = [Hvps.DiskQuery]::Facts([Hvps.Disk]::Get($Path))
    $rctId = $null
    if ($facts.TrackingEnabled) {
        $rctId = $facts.RctId
    }
    [pscustomobject]@{
        PSTypeName         = 'Hvps.DiskTracking'
        SizeBytes          = [uint64] $facts.Size
        LogicalSectorBytes = [int] $facts.SectorSize
        TrackingEnabled    = [bool] $facts.TrackingEnabled
        NewerChanges       = [bool] $facts.NewerChanges
        RctId              = $rctId
        TrackingCode       = [uint64] $facts.TrackingCode
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

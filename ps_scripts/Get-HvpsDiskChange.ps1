<#
.SYNOPSIS
    Lists what changed on a frozen disk since an RCT id, in pages.
.DESCRIPTION
    Asked on the handle that reads the disk, which is attached on first use (docs/hyperv-facts.md#tracking-handle).
    Pages follow each other from the offset until the length is covered (docs/hyperv-facts.md#change-paging). A
    page without progress is the last one; the caller sees that it does not reach the end. No answer does not mean
    no change.
.PARAMETER Path
    File on the host.
.PARAMETER RctId
    Id of the base; the changes after it are returned.
.PARAMETER OffsetBytes
    Where to start, bytes from the disk's start.
.PARAMETER LengthBytes
    How much from there, bytes.
.OUTPUTS
    Hvps.ExtentPage
      OffsetBytes     int      where this page starts
      ProcessedBytes  int      how much of the disk it covers
      Extents         bytes?   u64 pairs offset and length
#>
[CmdletBinding()]
[OutputType('Hvps.ExtentPage')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [Parameter(Mandatory = $true)] [string] $RctId,
    [Parameter(Mandatory = $true)] [uint64] $OffsetBytes,
    [Parameter(Mandatory = $true)] [uint64] $LengthBytes
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
try {
    Import-HvpsReader
    $disk = [Hvps.Disk]::Get($Path)
    $position = $OffsetBytes
    $end = [uint64] ($OffsetBytes + $LengthBytes)
    while ($position -lt $end) {
        $page = [Hvps.DiskQuery]::Changes($disk, $RctId, $position, [uint64] ($end - $position))
        [pscustomobject]@{
            PSTypeName     = 'Hvps.ExtentPage'
            OffsetBytes    = [uint64] $page.Offset
            ProcessedBytes = [uint64] $page.Processed
            Extents        = $page.Extents
        }
        if ($page.Processed -eq 0) {
            break
        }
        $position = [uint64] ($position + $page.Processed)
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

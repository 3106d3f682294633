<#
.SYNOPSIS
    Lists what the files of a VHDX chain hold data for; the rest of the disk reads as zeros.
.DESCRIPTION
    Read from the tables of the files, so that a full backup can skip what was never written. Files that are not
    VHDX, or have a log to replay, are an error; everything must then be read.
.PARAMETER Chain
    Frozen file and its parents, top first.
.OUTPUTS
    Hvps.ExtentPage
      OffsetBytes     int      where this page starts
      ProcessedBytes  int      how much of the disk it covers
      Extents         bytes?   u64 pairs offset and length
#>
[CmdletBinding()]
[OutputType('Hvps.ExtentPage')]
param(
    [Parameter(Mandatory = $true)] [string[]] $Chain
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
#% include "lib/Vhdx.ps1"

$ExtentsPerPage = 4096

$sources = @()
try {
    Import-HvpsReader
    Import-HvpsVhdx
    $files = New-Object -TypeName 'System.Collections.Generic.List[Hvps.VhdxFile]'
    try {
        foreach ($path in $Chain) {
            $source = New-Object -TypeName Hvps.HostFile -ArgumentList $path
            $sources += $source
            $files.Add((New-Object -TypeName Hvps.VhdxFile -ArgumentList $path, $source.Reader))
        }
        $ranges = [Hvps.Vhdx]::Allocated($files)
    }
    catch {
        for ($inner = $_.Exception; $null -ne $inner; $inner = $inner.InnerException) {
            if ($inner.GetType().FullName -eq 'Hvps.VhdxUnsupported') {
                throw (New-HvpsError -Id 'Hvps.FormatUnsupported' -Message $inner.Message -Cause $inner)
            }
            if ($inner -is [IO.InvalidDataException]) {
                throw (New-HvpsError -Id 'Hvps.ChainBroken' -Message $inner.Message -Cause $inner)
            }
        }
        throw
    }
    $size = [uint64] $files[0].Size
    $position = [uint64] 0
    $first = 0
    do {
        $count = [Math]::Min($ExtentsPerPage, $ranges.Count - $first)
        # A page covers everything up to the first extent of the next one.
        $end = $size
        if ($first + $count -lt $ranges.Count) {
            $end = [uint64] $ranges[$first + $count].Offset
        }
        $extents = $null
        if ($count -gt 0) {
            $extents = [Hvps.Vhdx]::Pack($ranges, $first, $count)
        }
        [pscustomobject]@{
            PSTypeName     = 'Hvps.ExtentPage'
            OffsetBytes    = $position
            ProcessedBytes = [uint64] ($end - $position)
            Extents        = $extents
        }
        $position = $end
        $first += $count
    } while ($position -lt $size)
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
finally {
    foreach ($source in $sources) {
        $source.Dispose()
    }
}

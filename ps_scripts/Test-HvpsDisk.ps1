<#
.SYNOPSIS
    Opens a virtual disk for information only, as a test; an attached disk would block the start of its VM.
.PARAMETER Path
    File on the host.
.OUTPUTS
    Hvps.DiskProbe
      Path       text     the file
      Native     int?     why it could not be opened, a code of Windows
      SizeBytes  int      virtual size; 0 if it could not be opened
#>
[CmdletBinding()]
[OutputType('Hvps.DiskProbe')]
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
    $size = [uint64] 0
    $code = [Hvps.DiskProbe]::Open($Path, [ref] $size)
    $native = $null
    if ($code -ne 0) {
        $native = [long] $code -band 0xFFFFFFFFL
    }
    [pscustomobject]@{
        PSTypeName = 'Hvps.DiskProbe'
        Path       = $Path
        Native     = $native
        SizeBytes  = $size
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    Compiles the reader's C# and calls its native library, without side effects.
.OUTPUTS
    Hvps.ReaderCheck
      Compiled  bool     the C# compiled and virtdisk.dll answered
      Seconds   real     time it took
#>
[CmdletBinding()]
[OutputType('Hvps.ReaderCheck')]
param()
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
#% include "lib/Vhdx.ps1"
try {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    Import-HvpsReader
    Import-HvpsVhdx
    [pscustomobject]@{
        PSTypeName = 'Hvps.ReaderCheck'
        Compiled   = [Hvps.DiskQuery]::LibraryAnswers()
        Seconds    = [double] $clock.Elapsed.TotalSeconds
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

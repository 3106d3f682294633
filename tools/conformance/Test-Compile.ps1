<#
.SYNOPSIS
    Compiles the C# of hvps as a backup does, and shows times and sizes of structures. Changes nothing.
#>
[CmdletBinding()]
[OutputType('Hvps.ProbeFact')]
param()
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
#% include "lib/Vhdx.ps1"
#% include "lib/Probe.ps1"
#% include "lib/ScratchDisk.ps1"
try {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    Import-HvpsReader
    Write-ProbeFact -Name 'compile.reader_seconds' -Value ([Math]::Round($clock.Elapsed.TotalSeconds, 2))
    $clock.Restart()
    Import-HvpsVhdx
    Write-ProbeFact -Name 'compile.vhdx_seconds' -Value ([Math]::Round($clock.Elapsed.TotalSeconds, 2))
    $clock.Restart()
    Import-ScratchDisk
    Write-ProbeFact -Name 'compile.probe_seconds' -Value ([Math]::Round($clock.Elapsed.TotalSeconds, 2))
    Write-ProbeFact -Name 'compile.library_answers' -Value ([Hvps.DiskQuery]::LibraryAnswers())
    $sizes = @{}
    foreach ($type in @([Hvps.DiskQuery].Assembly.GetTypes())) {
        if ($type.IsValueType -and $type.FullName -like 'Hvps.Native*') {
            $sizes[[string] $type.Name] = [Runtime.InteropServices.Marshal]::SizeOf([type] $type)
        }
    }
    Write-ProbeFact -Name 'compile.structures' -Value $sizes
    $loaded = [Hvps.DiskQuery].Assembly.ImageRuntimeVersion
    Write-ProbeFact -Name 'compile.runtime' -Value ([string] $loaded)
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

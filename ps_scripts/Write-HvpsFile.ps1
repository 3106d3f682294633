<#
.SYNOPSIS
    Writes parts of a file that New-HvpsFile made, while its input is open.
.DESCRIPTION
    Each input object is one request with its digest, and is answered when it was written. The handle of the file
    belongs to the process: it stays open when this pipeline ends, until Close-HvpsFile.
.PARAMETER Path
    File on the host.
.INPUTS
    byte[], a request of formats/file_write.py.
.OUTPUTS
    Hvps.WrittenPart
      OffsetBytes  int      where it was written
      LengthBytes  int      how much was written
#>
[CmdletBinding()]
[OutputType('Hvps.WrittenPart')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [Parameter(ValueFromPipeline = $true)] [byte[]] $Request
)
begin {
    Set-StrictMode -Version 3.0
    $ErrorActionPreference = 'Stop'
    $ProgressPreference = 'SilentlyContinue'
    #% include "lib/Errors.ps1"
    #% include "lib/Reader.ps1"
    #% include "lib/WritePart.ps1"
    try {
        Import-HvpsReader
        $file = [Hvps.NewFile]::Get($Path)
    }
    catch {
        throw (ConvertTo-HvpsError -Record $_)
    }
}
process {
    Write-HvpsPart -Target $file -Request $Request
}

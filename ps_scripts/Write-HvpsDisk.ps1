<#
.SYNOPSIS
    Writes parts of a disk through the driver, while its input is open.
.DESCRIPTION
    Each input object is one request with its digest, and is answered when it was written. The disk
    belongs to the process: it stays attached when this pipeline ends, until Close-HvpsFile.
.PARAMETER Path
    File on the host.
.INPUTS
    byte[], a request of formats/file_write.py.
.OUTPUTS
    Hvps.WrittenPart
      OffsetBytes  int      where in the disk it was written
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
        $disk = [Hvps.WritableDisk]::Get($Path)
    }
    catch {
        throw (ConvertTo-HvpsError -Record $_)
    }
}
process {
    Write-HvpsPart -Target $disk -Request $Request
}

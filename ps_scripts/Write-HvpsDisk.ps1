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
    try {
        Import-HvpsReader
        $disk = [Hvps.WritableDisk]::Get($Path)
    }
    catch {
        throw (ConvertTo-HvpsError -Record $_)
    }
}
process {
    # If the input is closed at once, this block runs once without a request.
    if ($null -eq $Request) {
        return
    }
    try {
        $offset = $disk.Write($Request)
        [pscustomobject]@{
            PSTypeName  = 'Hvps.WrittenPart'
            OffsetBytes = [uint64] $offset
            LengthBytes = [uint64] ($Request.Length - [Hvps.NewFile]::HeaderBytes)
        }
    }
    catch {
        throw (ConvertTo-HvpsError -Record $_)
    }
}

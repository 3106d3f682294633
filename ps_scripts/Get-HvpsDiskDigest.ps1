<#
.SYNOPSIS
    Computes SHA-256 of consecutive chunks of a frozen disk.
.PARAMETER Path
    File on the host.
.PARAMETER ChunkBytes
    Chunk size of the repository's grid, bytes.
.PARAMETER OffsetBytes
    Where to start, bytes from the disk's start.
.PARAMETER LengthBytes
    How much from there, bytes.
.OUTPUTS
    Hvps.DigestPage
      FirstChunk  int      number of the first chunk
      Digests     bytes    SHA-256 of each chunk, 32 bytes each
#>
[CmdletBinding()]
[OutputType('Hvps.DigestPage')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [Parameter(Mandatory = $true)] [int] $ChunkBytes,
    [Parameter(Mandatory = $true)] [uint64] $OffsetBytes,
    [Parameter(Mandatory = $true)] [uint64] $LengthBytes
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
$digests = $null
try {
    Import-HvpsReader
    $disk = [Hvps.Disk]::Get($Path)
    $digests = New-Object -TypeName Hvps.ChunkDigests -ArgumentList $disk, $ChunkBytes, $OffsetBytes, $LengthBytes
    while ($null -ne ($page = $digests.Next())) {
        [pscustomobject]@{
            PSTypeName = 'Hvps.DigestPage'
            FirstChunk = [uint64] $digests.FirstChunk
            Digests    = $page
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
finally {
    if ($null -ne $digests) {
        $digests.Dispose()
    }
}

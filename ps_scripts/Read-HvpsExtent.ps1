<#
.SYNOPSIS
    Answers requests for parts of a frozen disk with blocks, while its input is open.
.DESCRIPTION
    Each input object is one packed request, which is answered with one or more blocks before the next request is
    read. Formats: hvpsbridge/formats/wire.py. The handle of the disk belongs to the process and is shared with
    other pipelines. It stays attached when this pipeline ends, until Close-HvpsReader or 120 s without a request.
    Blocks are sent as a property, because transcription records bare byte arrays
    (docs/hyperv-facts.md#bare-byte-arrays).
.PARAMETER Path
    File on the host.
.PARAMETER FirstBlock
    Number of the first block; 0 without it.
.INPUTS
    byte[], a packed request.
.OUTPUTS
    Hvps.BlockMessage
      Block  bytes    one block of formats/wire.py
#>
[CmdletBinding()]
[OutputType('Hvps.BlockMessage')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [int] $FirstBlock = 0,
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
        $disk = [Hvps.Disk]::Get($Path)
    }
    catch {
        throw (ConvertTo-HvpsError -Record $_)
    }
    $number = $FirstBlock
}
process {
    # If the input is closed at once, this block runs once without a request.
    if ($null -eq $Request) {
        return
    }
    $reply = $null
    try {
        $reply = New-Object -TypeName Hvps.Reply -ArgumentList $disk, $Request, $number
        while ($null -ne ($block = $reply.Next())) {
            [pscustomobject]@{ PSTypeName = 'Hvps.BlockMessage'; Block = $block }
        }
        $number = $reply.NextBlock
    }
    catch {
        throw (ConvertTo-HvpsError -Record $_)
    }
    finally {
        if ($null -ne $reply) {
            $reply.Dispose()
        }
    }
}

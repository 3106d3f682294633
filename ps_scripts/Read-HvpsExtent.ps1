<#
.SYNOPSIS
    A reader pipeline: requests come in while it runs, blocks go out.
.DESCRIPTION
    Its input stays open. Each input object is one packed request, answered by one or more blocks before the
    next is taken; formats as in hvpsbridge/formats/wire.py. The disk's handle is the process's, shared with
    other pipelines, and stays attached when this one ends, until Close-HvpsReader or 120 s without a request.
    Blocks travel as a property, never bare: with transcription on, bare arrays land in the transcript
    (docs/hyperv-facts.md#bare-byte-arrays).
.PARAMETER Path
    File on the host.
.PARAMETER FirstBlock
    Number of its first block; 0 without it.
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
    # A pipeline whose input is closed at once runs this block once, with nothing.
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

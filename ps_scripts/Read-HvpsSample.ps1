<#
.SYNOPSIS
    Sends random bytes made in memory, to measure how fast this host can send.
.PARAMETER LengthBytes
    How much to send, bytes.
.OUTPUTS
    Hvps.BlockMessage
      Block  bytes    random bytes, up to 1 MiB
#>
[CmdletBinding()]
[OutputType('Hvps.BlockMessage')]
param(
    [Parameter(Mandatory = $true)] [int] $LengthBytes
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    $block = New-Object -TypeName 'byte[]' -ArgumentList 1048576
    (New-Object -TypeName System.Random).NextBytes($block)
    for ($left = $LengthBytes; $left -gt 0; $left -= $block.Length) {
        if ($left -lt $block.Length) {
            $block = New-Object -TypeName 'byte[]' -ArgumentList $left
        }
        [pscustomobject]@{ PSTypeName = 'Hvps.BlockMessage'; Block = $block }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    Enlarges the disk in a file that nothing has open; one that has the size is left alone.
.PARAMETER Path
    File on the host.
.PARAMETER SizeBytes
    Size of the disk in the file, bytes; it is never made smaller.
.OUTPUTS
    Hvps.DiskEnlarged
      SizeBytes  int   size of the disk now
      Enlarged   bool  whether it was changed
#>
[CmdletBinding()]
[OutputType('Hvps.DiskEnlarged')]
param(
    [Parameter(Mandatory = $true)] [string] $Path,
    [Parameter(Mandatory = $true)] [uint64] $SizeBytes
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Chain.ps1"
try {
    #% include "lib/HyperV.ps1"
    try {
        $vhd = Hyper-V\Get-VHD -Path $Path -ErrorAction Stop
        $before = [uint64] $vhd.Size
        # docs/hyperv-facts.md#resize-vhd
        if ($before -lt $SizeBytes) {
            Hyper-V\Resize-VHD -Path $Path -SizeBytes $SizeBytes -ErrorAction Stop
            $vhd = Hyper-V\Get-VHD -Path $Path -ErrorAction Stop
        }
    }
    catch {
        throw (ConvertTo-HvpsDiskError -Record $_ -Path $Path)
    }
    if ([uint64] $vhd.Size -ne $SizeBytes) {
        $message = 'the disk in {0} has {1} bytes, not {2}' -f $Path, $vhd.Size, $SizeBytes
        throw (New-HvpsError -Id 'Hvps.BadRequest' -Message $message)
    }
    [pscustomobject]@{
        PSTypeName = 'Hvps.DiskEnlarged'
        SizeBytes  = [uint64] $vhd.Size
        Enlarged   = $before -ne $SizeBytes
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

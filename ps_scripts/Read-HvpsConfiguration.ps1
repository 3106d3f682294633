<#
.SYNOPSIS
    Reads the configuration files of a checkpoint: .vmcx, and .vmrs and .vmgs with the same name if they exist.
.DESCRIPTION
    They are copied as files (docs/hyperv-facts.md#configuration-files). An export would disable disk merging of
    the VM (docs/hyperv-facts.md#export-disables-merging).
.PARAMETER VmId
    Id of the VM.
.PARAMETER CheckpointId
    Id of a checkpoint of that VM.
.OUTPUTS
    Hvps.FilePiece
      Path         text     file on the host
      Name         text     file name without the folder
      SizeBytes    int      size of the file
      OffsetBytes  int      where the piece starts
      Sha256       text     of the piece, lower-case hex
      Data         bytes?   null for an empty file
#>
[CmdletBinding()]
[OutputType('Hvps.FilePiece')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [guid] $CheckpointId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/Reader.ps1"
$source = $null
try {
    Import-HvpsReader
    $setting = Get-HvpsWmiCheckpoint -Vm (Get-HvpsWmiVm -VmId $VmId) -CheckpointId $CheckpointId
    if ($null -eq $setting) {
        throw (New-HvpsError -Id 'Hvps.CheckpointNotFound' -Message "checkpoint $CheckpointId does not exist")
    }
    $first = $setting.ConfigurationDataRoot.TrimEnd('\') + '\' + $setting.ConfigurationFile
    $stem = $first.Substring(0, $first.LastIndexOf('.'))
    foreach ($extension in @('.vmcx', '.vmrs', '.vmgs')) {
        $path = $stem + $extension
        try {
            $source = New-Object -TypeName Hvps.HostFile -ArgumentList $path
        }
        catch {
            # Generation 1 has no .vmgs; a checkpoint without memory may have no .vmrs. The .vmcx must exist.
            $problem = ConvertTo-HvpsError -Record $_
            if ($extension -ne '.vmcx' -and $problem.FullyQualifiedErrorId -like 'Hvps.FileNotFound*') {
                continue
            }
            throw $problem
        }
        $position = [long] 0
        do {
            $count = [int] [Math]::Min([Hvps.HostFile]::PieceBytes, $source.Size - $position)
            $data = $source.Read($position, $count)
            $digest = [Hvps.HostFile]::Digest($data)
            if ($count -eq 0) {
                # Empty arrays cannot be sent.
                $data = $null
            }
            [pscustomobject]@{
                PSTypeName  = 'Hvps.FilePiece'
                Path        = $path
                Name        = $path.Substring($path.LastIndexOf('\') + 1)
                SizeBytes   = [uint64] $source.Size
                OffsetBytes = [uint64] $position
                Sha256      = $digest
                Data        = $data
            }
            $position += $count
        } while ($position -lt $source.Size)
        $source.Dispose()
        $source = $null
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}
finally {
    if ($null -ne $source) {
        $source.Dispose()
    }
}

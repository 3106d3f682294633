<#
.SYNOPSIS
    Removes files, and then folders that are empty. What is gone counts as removed.
.PARAMETER Files
    Files to remove.
.PARAMETER Folders
    Folders to remove if they are empty, the innermost first.
.OUTPUTS
    Hvps.FilesRemoved
      Removed  text[]   files and folders that were removed
#>
[CmdletBinding()]
[OutputType('Hvps.FilesRemoved')]
param(
    [string[]] $Files,
    [string[]] $Folders
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Reader.ps1"
try {
    Import-HvpsReader
    $removed = @()
    foreach ($file in @($Files | Where-Object { $_ })) {
        if ([Hvps.NewFile]::Delete($file)) {
            $removed += $file
        }
    }
    foreach ($folder in @($Folders | Where-Object { $_ })) {
        if ([Hvps.HostFolder]::Remove($folder)) {
            $removed += $folder
        }
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.FilesRemoved'; Removed = [string[]] $removed }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    Removes a checkpoint of any kind of a VM that is off; its merge continues in the background.
.DESCRIPTION
    An id alone removes nothing: the name must be the expected one. One that is gone counts as removed.
.PARAMETER VmId
    Id of the VM.
.PARAMETER CheckpointId
    Id of a checkpoint of that VM.
.PARAMETER Name
    Its name; a checkpoint of another name is left alone.
.OUTPUTS
    Hvps.Removal
      Removed  bool     false if it did not exist
#>
[CmdletBinding()]
[OutputType('Hvps.Removal')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [guid] $CheckpointId,
    [Parameter(Mandatory = $true)] [string] $Name
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $found = @(Hyper-V\Get-VMSnapshot -VM $vm -ErrorAction Stop |
            Where-Object { $null -ne $_ -and $CheckpointId -eq [guid] [string] $_.Id })
    if ($found.Count -gt 0) {
        if ($Name -cne [string] $found[0].Name -or 3 -ne [int] $vm.State) {
            $message = "checkpoint $CheckpointId is not named $Name, or the VM is not off; it is left alone"
            throw (New-HvpsError -Id 'Hvps.BadRequest' -Message $message)
        }
        Hyper-V\Remove-VMSnapshot -VMSnapshot $found[0] -ErrorAction Stop
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.Removal'; Removed = $found.Count -gt 0 }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

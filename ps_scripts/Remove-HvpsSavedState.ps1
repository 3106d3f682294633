<#
.SYNOPSIS
    Discards the saved state of a VM, which is off afterwards.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.Removal
      Removed  bool     false if it was not saved
#>
[CmdletBinding()]
[OutputType('Hvps.Removal')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $saved = 6 -eq [int] $vm.State
    if ($saved) {
        Hyper-V\Remove-VMSavedState -VM $vm -ErrorAction Stop
    }
    [pscustomobject]@{ PSTypeName = 'Hvps.Removal'; Removed = $saved }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

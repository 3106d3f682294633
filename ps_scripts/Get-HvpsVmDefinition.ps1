<#
.SYNOPSIS
    Describes everything needed to create a VM again, as JSON text (docs/hyperv-facts.md#vm-definition).
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.VmDefinition
      VmId  guid     id
      Json  text     the definition
#>
[CmdletBinding()]
[OutputType('Hvps.VmDefinition')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Chain.ps1"
#% include "lib/Definition.ps1"
try {
    #% include "lib/HyperV.ps1"
    $vm = Get-HvpsVmObject -VmId $VmId
    $definition = Get-HvpsDefinition -Vm $vm
    [pscustomobject]@{
        PSTypeName = 'Hvps.VmDefinition'
        VmId       = ConvertTo-HvpsGuid -Value $VmId
        Json       = ConvertTo-Json -InputObject $definition -Depth 8 -Compress
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

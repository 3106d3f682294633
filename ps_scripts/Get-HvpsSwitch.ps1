<#
.SYNOPSIS
    Lists the virtual switches of the host.
.OUTPUTS
    Hvps.SwitchInfo
      Name      text     its name
      SwitchId  guid     its id
#>
[CmdletBinding()]
[OutputType('Hvps.SwitchInfo')]
param()
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
try {
    #% include "lib/HyperV.ps1"
    foreach ($switch in @(Hyper-V\Get-VMSwitch -ErrorAction Stop | Where-Object { $null -ne $_ })) {
        [pscustomobject]@{
            PSTypeName = 'Hvps.SwitchInfo'
            Name       = [string] $switch.Name
            SwitchId   = ConvertTo-HvpsGuid -Value $switch.Id
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    Describes what the session may do on the host, and what protects the host from it.
.OUTPUTS
    Hvps.HostAccess
      Administrators        word     the group S-1-5-32-544 in the token
      HypervAdministrators  bool     the token has the group S-1-5-32-578
      VolumePrivilege       bool     the token has SeManageVolumePrivilege
      DefenderActive        bool?    Defender scans in real time
      DefenderRules         text[]   attack surface reduction rules, id=action
#>
[CmdletBinding()]
[OutputType('Hvps.HostAccess')]
param()
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Token.ps1"
try {
    $token = Get-HvpsToken
    $administrators = 'absent'
    if ($token.Groups -contains 'S-1-5-32-544') {
        $administrators = $(if ($token.Elevated) { 'enabled' } else { 'deny_only' })
    }
    $active = $null
    $rules = @()
    try {
        $namespace = 'root/Microsoft/Windows/Defender'
        $status = Get-CimInstance -Namespace $namespace -ClassName MSFT_MpComputerStatus -ErrorAction Stop
        $active = [bool] $status.RealTimeProtectionEnabled
        $preference = Get-CimInstance -Namespace $namespace -ClassName MSFT_MpPreference -ErrorAction Stop
        # Windows Server 2016 has no such rules.
        $ids = $preference.PSObject.Properties['AttackSurfaceReductionRules_Ids']
        $actions = $preference.PSObject.Properties['AttackSurfaceReductionRules_Actions']
        if ($null -ne $ids -and $null -ne $actions -and $null -ne $ids.Value) {
            for ($i = 0; $i -lt [Math]::Min($ids.Value.Count, @($actions.Value).Count); $i++) {
                $rules += '{0}={1}' -f ([string] $ids.Value[$i]).ToLowerInvariant(), [int] @($actions.Value)[$i]
            }
        }
    }
    catch {
        # Without Defender there is no such namespace. Another product may be there, which cannot be asked.
        $active = $null
    }
    [pscustomobject]@{
        PSTypeName           = 'Hvps.HostAccess'
        Administrators       = $administrators
        HypervAdministrators = $token.Groups -contains 'S-1-5-32-578'
        VolumePrivilege      = $token.Privileges -contains 'SeManageVolumePrivilege'
        DefenderActive       = $active
        DefenderRules        = [string[]] $rules
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

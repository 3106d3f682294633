<#
.SYNOPSIS
    Starts a VM that is off.
.PARAMETER VmId
    Id of the VM.
.OUTPUTS
    Hvps.VmStarted
      VmId     guid  its id
      Running  bool  whether it runs now
#>
[CmdletBinding()]
[OutputType('Hvps.VmStarted')]
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
    try {
        Hyper-V\Start-VM -VM $vm -ErrorAction Stop
    }
    catch {
        $code = Get-HvpsNativeCode -Text $_.Exception.Message -Exception $_.Exception
        $id = Get-HvpsDiskErrorId -Code $code -Fallback 'Hvps.Unexpected'
        if ($id -ceq 'Hvps.Unexpected') {
            throw
        }
        $message = 'cannot start the VM: {0}' -f $_.Exception.Message
        throw (New-HvpsError -Id $id -Message $message -Native $code -Cause $_.Exception)
    }
    $vm = Get-HvpsVmObject -VmId $VmId
    [pscustomobject]@{
        PSTypeName = 'Hvps.VmStarted'
        VmId       = ConvertTo-HvpsGuid -Value $VmId
        Running    = [int] $vm.State -eq 2
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    What a scratch VM shows while a checkpoint merges: status, chain and answers of Get-VHD, every 50 ms.
.PARAMETER VmId
    Id of the scratch VM.
.PARAMETER Token
    The token that New-ScratchVm got.
#>
[CmdletBinding(SupportsShouldProcess = $true)]
[OutputType('Hvps.ProbeFact')]
param(
    [Parameter(Mandatory = $true)] [guid] $VmId,
    [Parameter(Mandatory = $true)] [string] $Token
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/Probe.ps1"
#% include "lib/ScratchDisk.ps1"
#% include "lib/ScratchCheckpoint.ps1"

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-ScratchVm -VmId $VmId -Token $Token
    if (-not $PSCmdlet.ShouldProcess([string] $vm.Name, 'make a recovery checkpoint and watch it merge')) {
        return
    }
    $made = New-ScratchCheckpoint -VmId $VmId
    if ($null -eq $made.Setting) {
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'no recovery checkpoint was made')
    }
    $parameters = @{
        Service   = 'Msvm_VirtualSystemSnapshotService'
        Method    = 'DestroySnapshot'
        Arguments = @{ AffectedSnapshot = $made.Setting }
    }
    $result = Invoke-HvpsMethod @parameters
    Write-ProbeFact -Name 'merge.return_value' -Value ([long] $result.ReturnValue)
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $trace = New-Object -TypeName Collections.Generic.List[object]
    $before = ''
    $quiet = 0
    $answers = $true
    while ($clock.Elapsed.TotalSeconds -lt 600 -and $quiet -lt 20) {
        $now = Hyper-V\Get-VM -Id $VmId -ErrorAction Stop
        $status = @($now.OperationalStatus | ForEach-Object { [long] $_ })
        $lengths = @()
        foreach ($drive in @(Get-ScratchDrive -Vm $now)) {
            try {
                $count = 0
                $path = [string] $drive.Path
                while ($path -and $count -lt 10) {
                    $vhd = Hyper-V\Get-VHD -Path $path -ErrorAction Stop
                    $path = [string] $vhd.ParentPath
                    $count += 1
                }
                $lengths += $count
            }
            catch {
                $lengths += [string] $_.FullyQualifiedErrorId
                # A file that is gone is the end of its merge, and no refusal.
                $answers = $answers -and [string] $_.FullyQualifiedErrorId -notlike 'ObjectInUse*'
            }
        }
        $shown = '{0} | {1}' -f ($status -join ' '), ($lengths -join ' ')
        if ($shown -cne $before) {
            $at = [Math]::Round($clock.Elapsed.TotalSeconds, 3)
            $trace.Add(@{ At = $at; Status = $status; Chains = $lengths })
            $before = $shown
            $quiet = 0
        }
        elseif ($status.Count -lt 2) {
            $quiet += 1
        }
        Start-Sleep -Milliseconds 50
    }
    Write-ProbeFact -Name 'merge.trace' -Value $trace.ToArray()
    Write-ProbeFact -Name 'merge.vhd_answers' -Value $answers
    $filter = "InstanceID LIKE 'Microsoft:{0}%'" -f $VmId.ToString('d').ToUpperInvariant()
    try {
        $settings = @(Get-CimInstance -Namespace $HvpsNamespace -ClassName Msvm_DiskMergeSettingData -Filter $filter `
                -ErrorAction Stop | Where-Object { $null -ne $_ })
        Write-ProbeFact -Name 'merge.settings_there' -Value ($settings.Count -gt 0)
        Write-ProbeFact -Name 'merge.settings' -Value @($settings | ForEach-Object { [long] $_.EnabledState })
    }
    catch {
        Write-ProbeFact -Name 'merge.settings_there' -Value $false
        Write-ProbeFact -Name 'merge.settings' -Value @{ error = Get-ProbeFailure -Record $_ }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

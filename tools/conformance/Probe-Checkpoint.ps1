<#
.SYNOPSIS
    How recovery checkpoints of a scratch VM are made, named and removed, and what their jobs show.
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
    if (-not $PSCmdlet.ShouldProcess([string] $vm.Name, 'make, name and remove recovery checkpoints')) {
        return
    }
    Write-ProbeFact -Name 'checkpoint.policy' -Value ([string] $vm.CheckpointType)
    # It gets its name below, after what a listing shows at first.
    $made = New-ScratchCheckpoint -VmId $VmId -Unnamed
    $reference = $made.Job
    Write-ProbeFact -Name 'job.return_value' -Value $made.ReturnValue
    Write-ProbeFact -Name 'job.by_reference' -Value ($null -ne $reference)
    Write-ProbeFact -Name 'job.trace' -Value $made.Trace
    Write-ProbeFact -Name 'job.seconds' -Value $made.Seconds
    if ($null -ne $reference) {
        Start-Sleep -Milliseconds 200
        Write-ProbeFact -Name 'job.there_after_end' -Value ($null -ne (Get-ScratchJob -Reference $reference))
    }
    if ($null -eq $made.Setting) {
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'no recovery checkpoint was made')
    }
    try {
        $clock = [Diagnostics.Stopwatch]::StartNew()
        while ($clock.Elapsed.TotalSeconds -lt 60) {
            $listed = @(Hyper-V\Get-VMSnapshot -VM $vm -ErrorAction SilentlyContinue |
                    Where-Object { [guid] $_.Id -eq [guid] $made.Setting.ConfigurationID })
            if ($listed.Count -gt 0) {
                break
            }
            Start-Sleep -Milliseconds 50
        }
        Write-ProbeFact -Name 'checkpoint.listed_seconds' -Value ([Math]::Round($clock.Elapsed.TotalSeconds, 3))
        $names = @{}
        foreach ($length in @(87, 99, 100, 101, 105)) {
            $name = (Get-ScratchName).PadRight($length, 'n')
            $names["$length"] = Rename-ScratchSetting -Setting $made.Setting -Name $name
        }
        Write-ProbeFact -Name 'checkpoint.name_lengths' -Value $names
        $type = [string] $made.Setting.VirtualSystemType
        Write-ProbeFact -Name 'checkpoint.virtual_system_type' -Value $type
        Write-ProbeFact -Name 'checkpoint.configuration_file' -Value ([string] $made.Setting.ConfigurationFile -ne '')
    }
    finally {
        Write-ProbeFact -Name 'checkpoint.removal' -Value (Remove-ScratchCheckpoint -VmId $VmId -Setting $made.Setting)
    }
    $policy = [string] $vm.CheckpointType
    Hyper-V\Set-VM -VM $vm -CheckpointType Disabled -ErrorAction Stop
    try {
        $disabled = New-ScratchCheckpoint -VmId $VmId
        Write-ProbeFact -Name 'checkpoint.disabled' -Value @{
            ReturnValue = $disabled.ReturnValue
            Trace       = $disabled.Trace
        }
        Write-ProbeFact -Name 'checkpoint.disabled_works' -Value ($null -ne $disabled.Setting)
        if ($null -ne $disabled.Setting) {
            $null = Remove-ScratchCheckpoint -VmId $VmId -Setting $disabled.Setting
        }
    }
    catch {
        Write-ProbeFact -Name 'checkpoint.disabled' -Value @{ Error = Get-ProbeFailure -Record $_ }
        Write-ProbeFact -Name 'checkpoint.disabled_works' -Value $false
    }
    finally {
        Hyper-V\Set-VM -VM $vm -CheckpointType $policy -ErrorAction Stop
    }
    try {
        $application = New-ScratchCheckpoint -VmId $VmId -ConsistencyLevel 1
        Write-ProbeFact -Name 'checkpoint.application' -Value @{
            ReturnValue = $application.ReturnValue
            Trace       = $application.Trace
            Made        = $null -ne $application.Setting
        }
        if ($null -ne $application.Setting) {
            $null = Remove-ScratchCheckpoint -VmId $VmId -Setting $application.Setting
        }
    }
    catch {
        Write-ProbeFact -Name 'checkpoint.application' -Value @{ Error = Get-ProbeFailure -Record $_ }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

<#
.SYNOPSIS
    How reads of a frozen disk of a scratch VM behave: pending, short, unaligned, past the end; two readers at once.
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

$Reads = 200

try {
    #% include "lib/HyperV.ps1"
    $vm = Get-ScratchVm -VmId $VmId -Token $Token
    if (-not $PSCmdlet.ShouldProcess([string] $vm.Name, 'make a recovery checkpoint and read its disks')) {
        return
    }
    Import-ScratchDisk
    $made = New-ScratchCheckpoint -VmId $VmId
    if ($null -eq $made.Setting) {
        throw (New-HvpsError -Id 'Hvps.JobFailed' -Message 'no recovery checkpoint was made')
    }
    try {
        $path = @(Get-ScratchFrozenPath -Setting $made.Setting)[0]
        $disk = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($path, $false, $true)
        try {
            Write-ProbeFact -Name 'reads.open' -Value $disk.OpenCode
            Write-ProbeFact -Name 'reads.attach' -Value $disk.Attach($true, $false)
            $size = $disk.Size()
            $pending = 0
            $whole = $true
            $clock = [Diagnostics.Stopwatch]::StartNew()
            for ($i = 0; $i -lt $Reads; $i++) {
                $answer = $disk.Read(($i % 64) * 65536, 65536)
                $pending += [int] $answer.Flag
                $whole = $whole -and $answer.Code -eq 0 -and $answer.Count -eq 65536
            }
            $seconds = $clock.Elapsed.TotalSeconds
            Write-ProbeFact -Name 'reads.pending' -Value ($pending -gt $Reads / 2)
            Write-ProbeFact -Name 'reads.whole' -Value $whole
            Write-ProbeFact -Name 'reads.rate_bytes' -Value ([long] ($Reads * 65536 / [Math]::Max(0.001, $seconds)))
            $end = [long] $size.Processed
            $cases = @{
                unaligned_offset = $disk.Read(1, 65536).Code
                unaligned_length = $disk.Read(0, 100).Code
                last_sector      = $disk.Read($end - $size.Count, $size.Count).Code
                across_the_end   = $disk.Read($end - $size.Count, 2 * $size.Count).Code
                past_the_end     = $disk.Read($end, $size.Count).Code
            }
            Write-ProbeFact -Name 'reads.edges' -Value $cases
            $second = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($path, $false, $true)
            try {
                Write-ProbeFact -Name 'reads.second_attach' -Value $second.Attach($true, $false)
            }
            finally {
                $second.Dispose()
            }
            $clock.Restart()
            $disk.Abandon()
        }
        finally {
            $disk.Dispose()
        }
        $tries = 0
        $code = -1
        while ($code -ne 0 -and $tries -lt 100) {
            $again = New-Object -TypeName HvpsProbe.ScratchDisk -ArgumentList @($path, $false, $true)
            $code = $again.Attach($true, $false)
            $again.Dispose()
            $tries += 1
            if ($code -ne 0) {
                Start-Sleep -Milliseconds 50
            }
        }
        Write-ProbeFact -Name 'reads.free_again_seconds' -Value ([Math]::Round($clock.Elapsed.TotalSeconds, 3))
        Write-ProbeFact -Name 'reads.free_again_code' -Value $code
    }
    finally {
        $null = Remove-ScratchCheckpoint -VmId $VmId -Setting $made.Setting
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

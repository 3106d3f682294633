<#
.SYNOPSIS
    Makes a scratch VM without an operating system, off, with disks of several kinds.
.DESCRIPTION
    The notes of the VM hold its own id and the token: the kit touches no other VM. Disks: dynamic and fixed VHDX, one
    with 4 KiB sectors, and a VHD where the generation allows it.
.PARAMETER Name
    Name of the VM.
.PARAMETER Token
    At least 32 random characters; the other probes need the same.
.PARAMETER Folder
    Folder for the VM; the host's default folder without it.
.PARAMETER DiskMiB
    Size of the largest disk, MiB.
.PARAMETER Generation
    1 or 2.
#>
[CmdletBinding(SupportsShouldProcess = $true)]
[OutputType('Hvps.ProbeFact')]
param(
    [Parameter(Mandatory = $true)] [string] $Name,
    [Parameter(Mandatory = $true)] [string] $Token,
    [Parameter()] [string] $Folder,
    [Parameter()] [int] $DiskMiB = 1024,
    [Parameter()] [int] $Generation = 1
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Probe.ps1"
#% include "lib/ScratchFiles.ps1"
try {
    #% include "lib/HyperV.ps1"
    if ($Token.Length -lt 32) {
        throw (New-HvpsError -Id 'Hvps.BadRequest' -Message 'the token needs at least 32 characters')
    }
    if (-not $Folder) {
        $Folder = [string] (Hyper-V\Get-VMHost -ErrorAction Stop).VirtualMachinePath
    }
    $place = '{0}\{1}' -f $Folder.TrimEnd('\'), $Name
    $disks = @(
        @{ File = 'dynamic.vhdx'; MiB = $DiskMiB; Arguments = @{ Dynamic = $true } },
        @{ File = 'fixed.vhdx'; MiB = [Math]::Max(64, $DiskMiB / 16); Arguments = @{ Fixed = $true } },
        @{ File = 'sector4k.vhdx'; MiB = [Math]::Max(64, $DiskMiB / 16)
            Arguments = @{ Dynamic = $true; LogicalSectorSizeBytes = 4096; PhysicalSectorSizeBytes = 4096 }
        }
    )
    if ($Generation -eq 1) {
        $disks += @{ File = 'old.vhd'; MiB = 64; Arguments = @{ Dynamic = $true } }
    }
    if ([IO.Directory]::Exists($place) -and @([IO.Directory]::GetFileSystemEntries($place)).Count -gt 0) {
        throw (New-HvpsError -Id 'Hvps.BadRequest' -Message "$place is not empty; use another name or folder")
    }
    if ($PSCmdlet.ShouldProcess($place, 'make a scratch VM with {0} disks' -f $disks.Count)) {
        $parameters = @{
            Name = $Name; Generation = $Generation; MemoryStartupBytes = 512MB; Path = $Folder; NoVHD = $true
        }
        $vm = Hyper-V\New-VM @parameters -ErrorAction Stop
        try {
            Hyper-V\Set-VM -VM $vm -Notes (Get-ScratchMark -VmId $vm.Id -Token $Token) -ErrorAction Stop
            foreach ($disk in $disks) {
                $path = '{0}\{1}' -f $place, $disk.File
                $arguments = $disk.Arguments
                $null = Hyper-V\New-VHD -Path $path -SizeBytes ([uint64] $disk.MiB * 1MB) @arguments -ErrorAction Stop
                Hyper-V\Add-VMHardDiskDrive -VM $vm -ControllerType SCSI -Path $path -ErrorAction Stop
            }
        }
        catch {
            $failure = $_
            # Half a scratch VM is of no use, and its name would be in the way.
            Hyper-V\Remove-VM -VM $vm -Force -ErrorAction Continue
            $null = Remove-ScratchFile -Path @($disks | ForEach-Object { '{0}\{1}' -f $place, $_.File })
            Clear-ScratchFolder -Path $place
            throw $failure
        }
        Write-ProbeFact -Name 'scratch.vm_id' -Value ([string] $vm.Id)
        Write-ProbeFact -Name 'scratch.version' -Value ([string] $vm.Version)
        Write-ProbeFact -Name 'scratch.disks' -Value @($disks | ForEach-Object { $_.File })
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

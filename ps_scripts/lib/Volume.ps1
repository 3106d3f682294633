# Volumes and shares behind the files of a VM.

function Get-HvpsVmPath {
    <#
    .SYNOPSIS
    Folders and disk files of a VM, those of its chains included.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    [string] $Vm.ConfigurationLocation
    [string] $Vm.SnapshotFileLocation
    foreach ($row in @(Get-HvpsDriveChain -Vm $Vm)) {
        if ($row.Drive.Path -and $null -eq $row.Drive.DiskNumber) {
            # Include the file itself: if it cannot be queried its chain is empty, but its volume still counts.
            [string] $row.Drive.Path
            $row.Chain | ForEach-Object { [string] $_.Path }
        }
    }
}

function Get-HvpsVolumeList {
    <#
    .SYNOPSIS
    Mounted volumes, longest mount point first: a volume can be mounted in a folder of another one.
    #>
    [CmdletBinding()]
    param()
    Get-CimInstance -ClassName Win32_Volume -ErrorAction Stop |
        Where-Object { $_.Name -and $null -ne $_.Capacity } |
        Sort-Object -Property @{ Expression = { $_.Name.Length }; Descending = $true }
}

function Find-HvpsVolume {
    <#
    .SYNOPSIS
    The volume that a path is on; nothing if it is on none of them.
    .PARAMETER Volumes
    Volumes from Get-HvpsVolumeList.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [AllowEmptyString()] [string] $Path,
        [Parameter(Mandatory = $true)] [AllowEmptyCollection()] [object[]] $Volumes
    )
    foreach ($volume in $Volumes) {
        if ($Path.StartsWith($volume.Name, [StringComparison]::OrdinalIgnoreCase)) {
            return $volume
        }
    }
}

function Get-HvpsShare {
    <#
    .SYNOPSIS
    \\server\share of a path on a share, in lower case; null for other paths.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [AllowEmptyString()] [string] $Path)
    $match = [regex]::Match($Path, '^\\\\(?:\?\\UNC\\)?([^\\?.][^\\]*\\[^\\]+)', 'IgnoreCase')
    if ($match.Success) {
        return '\\' + $match.Groups[1].Value.ToLowerInvariant()
    }
    $null
}

# Virtual disk files and their parents.

function Get-HvpsChain {
    <#
    .SYNOPSIS
    The objects of Get-VHD for a file and each parent, top first.
    .NOTES
    If Get-VHD cannot open a file, its error is thrown as one of the contract. It fails for files that are in use
    elsewhere (docs/hyperv-facts.md#get-vhd-in-use).
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [string] $Path)
    $seen = New-Object -TypeName 'System.Collections.Generic.HashSet[string]' -ArgumentList (
        [StringComparer]::OrdinalIgnoreCase)
    $next = $Path
    while ($next) {
        if (-not $seen.Add($next)) {
            throw (New-HvpsError -Id 'Hvps.ChainBroken' -Message "the chain of $Path has a cycle at $next")
        }
        try {
            $vhd = Hyper-V\Get-VHD -Path $next -ErrorAction Stop
        }
        catch {
            throw (ConvertTo-HvpsDiskError -Record $_ -Path $next)
        }
        $vhd
        $next = [string] $vhd.ParentPath
    }
}

function Get-HvpsDriveChain {
    <#
    .SYNOPSIS
    Each disk drive of a VM with its chain: Drive, Chain (objects of Get-VHD, top first) and Problem.
    .DESCRIPTION
    A merge that ends after the drives were listed removes files from their chains, and Get-VHD refuses files that a
    merge is switching (docs/hyperv-facts.md#get-vhd-in-use). So the drives are listed again if a file is missing, for
    some rounds, or busy, for some seconds. After that Problem is the ErrorRecord and Chain is empty. Chain is also
    empty for empty and pass-through drives.
    .PARAMETER BusySeconds
    How long to wait for files that are busy.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm, [int] $BusySeconds = 5)
    $rounds = 5
    $end = [DateTime]::UtcNow.AddSeconds($BusySeconds)
    for ($round = 1; $true; $round++) {
        $rows = @(
            Hyper-V\Get-VMHardDiskDrive -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ } | ForEach-Object {
                $row = [pscustomobject]@{ Drive = $_; Chain = @(); Problem = $null }
                if ($row.Drive.Path -and $null -eq $row.Drive.DiskNumber) {
                    try {
                        $row.Chain = @(Get-HvpsChain -Path ([string] $row.Drive.Path))
                    }
                    catch {
                        $row.Problem = $_
                    }
                }
                $row
            }
        )
        $problems = @($rows | Where-Object { $null -ne $_.Problem } |
                ForEach-Object { $_.Problem.FullyQualifiedErrorId.Split(',')[0] })
        $passing = ($problems -contains 'Hvps.FileNotFound' -and $round -lt $rounds) -or
            ($problems -contains 'Hvps.DiskBusy' -and [DateTime]::UtcNow -lt $end)
        if (-not $passing) {
            return $rows
        }
        Start-Sleep -Milliseconds 300
    }
}

function ConvertTo-HvpsDiskError {
    <#
    .SYNOPSIS
    An error of Get-VHD as an error of the contract.
    #>
    [CmdletBinding()]
    [OutputType([Management.Automation.ErrorRecord])]
    param(
        [Parameter(Mandatory = $true)] [Management.Automation.ErrorRecord] $Record,
        [Parameter(Mandatory = $true)] [string] $Path
    )
    $id = [string] $Record.FullyQualifiedErrorId
    if ($id -like 'Hvps.*') {
        return $Record
    }
    $text = $Record.Exception.Message
    $code = Get-HvpsNativeCode -Text $text -Exception $Record.Exception
    $category = [string] $Record.CategoryInfo.Category
    $byCategory = @{
        'ResourceBusy'     = 'Hvps.DiskBusy'
        'ObjectNotFound'   = 'Hvps.FileNotFound'
        'PermissionDenied' = 'Hvps.AccessDenied'
    }
    $fallback = 'Hvps.DiskUnreadable'
    if ($byCategory.ContainsKey($category)) {
        $fallback = $byCategory[$category]
    }
    $ours = Get-HvpsDiskErrorId -Code $code -Fallback $fallback
    New-HvpsError -Id $ours -Message "cannot query $Path`: $text" -Native $code -Cause $Record.Exception
}

# What the probes share: facts, the mark of a scratch VM, and calls that record how they fail.

function Write-ProbeFact {
    <#
    .SYNOPSIS
    Emits a fact: its name, and its value as JSON.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [string] $Name,
        [Parameter(Mandatory = $true)] [AllowNull()] [AllowEmptyCollection()] [object] $Value
    )
    [pscustomobject]@{
        PSTypeName = 'Hvps.ProbeFact'
        Name       = $Name
        Json       = ConvertTo-Json -InputObject $Value -Depth 6 -Compress
    }
}

function Get-ProbeFailure {
    <#
    .SYNOPSIS
    An error record as a table: id, category, HRESULT, text.
    #>
    [CmdletBinding()]
    [OutputType([hashtable])]
    param([Parameter(Mandatory = $true)] [object] $Record)
    @{
        Id       = [string] $Record.FullyQualifiedErrorId
        Category = [string] $Record.CategoryInfo.Category
        Type     = [string] $Record.Exception.GetType().FullName
        HResult  = '0x{0:X8}' -f [int] $Record.Exception.HResult
        Text     = [string] $Record.Exception.Message
    }
}

function Get-ScratchMark {
    <#
    .SYNOPSIS
    The notes of a scratch VM.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [Parameter(Mandatory = $true)] [guid] $VmId,
        [Parameter(Mandatory = $true)] [string] $Token
    )
    'hvps scratch VM {0} {1}' -f $VmId.ToString('d').ToLowerInvariant(), $Token
}

function Get-ScratchVm {
    <#
    .SYNOPSIS
    The scratch VM; refuses every VM whose notes are not its own mark.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [guid] $VmId,
        [Parameter(Mandatory = $true)] [string] $Token
    )
    $vm = Hyper-V\Get-VM -Id $VmId -ErrorAction Stop
    if ($Token.Length -lt 32 -or ([string] $vm.Notes).Trim() -cne (Get-ScratchMark -VmId $VmId -Token $Token)) {
        throw (New-HvpsError -Id 'Hvps.BadRequest' -Message "VM $VmId is no scratch VM of this token: not touched")
    }
    $vm
}

function Get-ScratchDrive {
    <#
    .SYNOPSIS
    Disk drives of the scratch VM that have a file.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    Hyper-V\Get-VMHardDiskDrive -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ -and $_.Path }
}

function Wait-ScratchMerge {
    <#
    .SYNOPSIS
    Waits until the VM reports no operation; false if it still does after the time.
    #>
    [CmdletBinding()]
    [OutputType([bool])]
    param(
        [Parameter(Mandatory = $true)] [guid] $VmId,
        [Parameter()] [int] $Seconds = 600
    )
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while ($clock.Elapsed.TotalSeconds -lt $Seconds) {
        $vm = Hyper-V\Get-VM -Id $VmId -ErrorAction Stop
        if (@($vm.OperationalStatus).Count -lt 2) {
            return $true
        }
        Start-Sleep -Milliseconds 100
    }
    $false
}

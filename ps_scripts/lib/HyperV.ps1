# Hyper-V cmdlets. Always module-qualified, because other products export the same names, and always by VM id,
# because names are patterns and not unique (docs/hyperv-facts.md#hyperv-module).

if (-not (Get-Module -Name Hyper-V)) {
    Import-Module -Name Hyper-V -MinimumVersion 2.0 -ErrorAction Stop
}

function Get-HvpsVmObject {
    <#
    .SYNOPSIS
    The VM with that id; throws Hvps.VmNotFound.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [guid] $VmId)
    try {
        $vm = Hyper-V\Get-VM -Id $VmId -ErrorAction Stop
    }
    catch {
        # The category for a missing VM depends on the module (docs/hyperv-facts.md#missing-vm).
        $id = [string] $_.FullyQualifiedErrorId
        if ($id -like 'InvalidParameter,*' -or $id -like 'ObjectNotFound,*' -or
            'ObjectNotFound' -eq [string] $_.CategoryInfo.Category) {
            throw (New-HvpsError -Id 'Hvps.VmNotFound' -Message "VM $VmId does not exist" -Cause $_.Exception)
        }
        throw
    }
    if ($null -eq $vm) {
        throw (New-HvpsError -Id 'Hvps.VmNotFound' -Message "VM $VmId does not exist")
    }
    $vm
}

function ConvertTo-HvpsGuid {
    <#
    .SYNOPSIS
    A guid as text in lower case without braces; null for null and for the empty guid.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([AllowNull()] [object] $Value)
    $text = [string] $Value
    if ($text -eq '') {
        return $null
    }
    $guid = [guid] $text
    if ($guid -eq [guid]::Empty) {
        return $null
    }
    $guid.ToString('d')
}

function ConvertTo-HvpsTime {
    <#
    .SYNOPSIS
    A time as ISO 8601 text in UTC; Hyper-V reports local times.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [datetime] $Value)
    $Value.ToUniversalTime().ToString('o', [Globalization.CultureInfo]::InvariantCulture)
}

function Get-HvpsOptional {
    <#
    .SYNOPSIS
    The value of a member that only newer modules have, or the default.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $InputObject,
        [Parameter(Mandatory = $true)] [string] $Name,
        [AllowNull()] [object] $Default = $null
    )
    $member = $InputObject.PSObject.Properties[$Name]
    if ($null -eq $member -or $null -eq $member.Value) {
        return $Default
    }
    $member.Value
}

function ConvertTo-HvpsWord {
    <#
    .SYNOPSIS
    The word of the contract for a number of an enum.
    .PARAMETER Value
    An enum value or number; null means unknown.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param(
        [AllowNull()] [object] $Value,
        [Parameter(Mandatory = $true)] [hashtable] $Words,
        [Parameter(Mandatory = $true)] [string] $Otherwise
    )
    if ($null -eq $Value -or -not $Words.ContainsKey([int] $Value)) {
        return $Otherwise
    }
    [string] $Words[[int] $Value]
}

function Get-HvpsController {
    <#
    .SYNOPSIS
    The word of the contract for the controller of a drive.
    #>
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [object] $Drive)
    $words = @{ 0 = 'ide'; 1 = 'scsi'; 2 = 'pmem' }
    ConvertTo-HvpsWord -Value $Drive.ControllerType -Words $words -Otherwise 'scsi'
}

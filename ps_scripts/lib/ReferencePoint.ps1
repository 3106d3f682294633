# Reference points of a VM.

function Get-HvpsWmiReferencePoint {
    <#
    .SYNOPSIS
    Msvm_VirtualSystemReferencePoint instances of a VM.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    $parameters = @{
        InputObject = $Vm
        ClassName   = 'Msvm_VirtualSystemReferencePoint'
        Association = 'Msvm_ReferencePointOfVirtualSystem'
    }
    Get-HvpsAssociated @parameters
}

function Test-HvpsRctId {
    <#
    .SYNOPSIS
    Whether a reference point has all of the given RCT ids.
    #>
    [CmdletBinding()]
    [OutputType([bool])]
    param([Parameter(Mandatory = $true)] [object] $Instance, [Parameter()] [string[]] $RctIds)
    $there = @($Instance.ResilientChangeTrackingIdentifiers | Where-Object { $null -ne $_ })
    0 -eq @($RctIds | Where-Object { $null -ne $_ -and $there -cnotcontains $_ }).Count
}

function Remove-HvpsWmiReferencePoint {
    <#
    .SYNOPSIS
    Destroys a reference point; false if something else destroyed it meanwhile (32779 and 32789).
    #>
    [CmdletBinding()]
    [OutputType([bool])]
    param([Parameter(Mandatory = $true)] [object] $Instance, [Parameter(Mandatory = $true)] [int] $Seconds)
    $parameters = @{
        Service   = 'Msvm_VirtualSystemReferencePointService'
        Method    = 'DestroyReferencePoint'
        Arguments = @{ AffectedReferencePoint = $Instance }
    }
    $result = Invoke-HvpsMethod @parameters
    if (@(32779, 32789) -contains [int] $result.ReturnValue) {
        return $false
    }
    $null = Wait-HvpsJob -Result $result -Seconds $Seconds -What 'the removal'
    $true
}

function ConvertTo-HvpsReferencePointInfo {
    <#
    .SYNOPSIS
    A reference point as an object of the contract.
    .NOTES
    In this property 1 is log based and 2 is RCT (docs/hyperv-facts.md#reference-point-type).
    #>
    [CmdletBinding()]
    [OutputType('Hvps.ReferencePointInfo')]
    param(
        [Parameter(Mandatory = $true)] [object] $Instance,
        [Parameter(Mandatory = $true)] [guid] $VmId
    )
    $kind = 'rct'
    if (1 -eq [int] $Instance.ReferencePointType) {
        $kind = 'log'
    }
    $words = @{ 1 = 'application'; 2 = 'crash' }
    [pscustomobject]@{
        PSTypeName      = 'Hvps.ReferencePointInfo'
        VmId            = ConvertTo-HvpsGuid -Value $VmId
        InstanceId      = [string] $Instance.InstanceID
        Kind            = $kind
        Consistency     = ConvertTo-HvpsWord -Value $Instance.ConsistencyLevel -Words $words -Otherwise 'unknown'
        DiskInstanceIds = [string[]] @($Instance.VirtualDiskIdentifiers | Where-Object { $null -ne $_ })
        RctIds          = [string[]] @($Instance.ResilientChangeTrackingIdentifiers |
                Where-Object { $null -ne $_ })
    }
}

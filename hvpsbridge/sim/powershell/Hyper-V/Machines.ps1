# Commands that show hosts and VMs.

function Get-VMHost {
    [CmdletBinding(DefaultParameterSetName = 'ComputerName')]
    param(
        [Parameter(ParameterSetName = 'ComputerName', Position = 0)] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'ComputerName')] [pscredential] $Credential,
        [Parameter(ParameterSetName = 'CimSession', Mandatory = $true)] [object[]] $CimSession
    )
    if (Assert-HvLocal $PSCmdlet 'GetVMHost' $PSBoundParameters) {
        Write-HvReply $PSCmdlet 'GetVMHost' (Invoke-Model 'vm.host') $null
    }
}

function Get-VMHostSupportedVersion {
    [CmdletBinding()]
    param(
        [object[]] $CimSession, [string[]] $ComputerName, [pscredential] $Credential, [switch] $Default
    )
    if (Assert-HvLocal $PSCmdlet 'GetVMHostSupportedVersion' $PSBoundParameters) {
        Write-HvReply $PSCmdlet 'GetVMHostSupportedVersion' (Invoke-Model 'vm.supported_versions') $null
    }
}

function Get-VM {
    [CmdletBinding(DefaultParameterSetName = 'Name')]
    param(
        [Parameter(ParameterSetName = 'Name', Position = 0, ValueFromPipeline = $true)]
        [Alias('VMName')] [string[]] $Name,
        [Parameter(ParameterSetName = 'Id', Position = 0, ValueFromPipeline = $true, ValueFromPipelineByPropertyName = $true)]
        [Nullable[guid]] $Id,
        [Parameter(ParameterSetName = 'ClusterObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [psobject] $ClusterObject,
        [Parameter(ParameterSetName = 'Name')] [Parameter(ParameterSetName = 'Id')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'Name')] [Parameter(ParameterSetName = 'Id')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'Name')] [Parameter(ParameterSetName = 'Id')] [pscredential] $Credential
    )
    process {
        if (-not (Assert-HvLocal $PSCmdlet 'GetVM' $PSBoundParameters)) {
            return
        }
        $asked = @{}
        $target = $Name
        if ($null -ne $Id) {
            $target = $Id
            $asked = @{ id = [string] $Id }
        }
        elseif ($Name) {
            $asked = @{ names = $Name }
        }
        Write-HvReply $PSCmdlet 'GetVM' (Invoke-Model 'vm.machines' $asked) $target
    }
}

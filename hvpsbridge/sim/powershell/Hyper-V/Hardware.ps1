# Commands that show the hardware of a VM.

function Get-VMNetworkAdapterVlan {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'ResourceObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VMNetworkAdapter[]] $VMNetworkAdapter,
        [string] $VMNetworkAdapterName,
        [Parameter(ParameterSetName = 'VMName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'VMName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'VMName')] [pscredential] $Credential
    )
    process {
        # Ids of the adapters show which VM it is about.
        $asked = @{ adapters = [string[]] @($VMNetworkAdapter | ForEach-Object { $_.Id }) }
        Write-HvReply $PSCmdlet 'GetVMNetworkAdapterVlan' (Invoke-Model 'vm.vlan' $asked) $null
    }
}

function Get-VMKeyProtector {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    [OutputType([byte[]])]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'VMName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'VMName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'VMName')] [pscredential] $Credential
    )
    process {
        foreach ($id in @(Get-HvTarget $PSCmdlet 'GetVMKeyProtector' $PSBoundParameters)) {
            $reply = Invoke-Model 'vm.key_protector' @{ vm = $id }
            if ($reply.ContainsKey('error')) {
                Write-HvRefusal $PSCmdlet 'GetVMKeyProtector' $reply['error'] $id
            }
            else {
                $PSCmdlet.WriteObject([byte[]] $reply['result'], $false)
            }
        }
    }
}

# Commands that show parts of a VM, defined below. With -VMSnapshot they show those of the VM.
$script:HvReaders = @{
    'Get-VMBios'               = 'bios'
    'Get-VMDvdDrive'           = 'dvd_drives'
    'Get-VMFirmware'           = 'firmware'
    'Get-VMIntegrationService' = 'integration_services'
    'Get-VMMemory'             = 'memory'
    'Get-VMNetworkAdapter'     = 'network_adapters'
    'Get-VMProcessor'          = 'processor'
    'Get-VMScsiController'     = 'scsi_controllers'
    'Get-VMSecurity'           = 'security'
}
# Additional parameters of some of them.
$script:HvExtra = @{
    'Get-VMDvdDrive'           = '[Nullable[int]] $ControllerNumber, [Nullable[int]] $ControllerLocation,'
    'Get-VMIntegrationService' = '[Parameter(Position = 1)] [string[]] $Name,'
    'Get-VMNetworkAdapter'     = '[string] $Name, [Nullable[bool]] $IsLegacy,'
    'Get-VMScsiController'     = '[Nullable[int]] $ControllerNumber,'
}
$script:HvOfSnapshot = @'
[Parameter(ParameterSetName = 'VMSnapshot', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot,
'@
foreach ($command in $script:HvReaders.Keys) {
    $text = @'
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        SNAPSHOT
        EXTRA
        [Parameter(ParameterSetName = 'VMName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'VMName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'VMName')] [pscredential] $Credential
    )
    process {
        $ids = $(if ($PSCmdlet.ParameterSetName -ceq 'VMSnapshot') { [string] $VMSnapshot.VMId }
            else { Get-HvTarget $PSCmdlet 'COMMAND' $PSBoundParameters })
        foreach ($id in @($ids)) {
            $reply = Invoke-Model 'vm.CALL' @{ vm = $id }
            foreach ($filter in 'Name', 'ControllerNumber', 'ControllerLocation', 'IsLegacy') {
                if ($PSBoundParameters.ContainsKey($filter) -and $reply.ContainsKey('result')) {
                    $wanted = $PSBoundParameters[$filter]
                    $reply['result'] = @($reply['result'] | Where-Object { $row = $_; @($wanted | Where-Object { $row[$filter] -like $_ }).Count })
                }
            }
            Write-HvReply $PSCmdlet 'COMMAND' $reply $id
        }
    }
'@
    # Get-VMSecurity takes no checkpoint.
    $text = $text.Replace('SNAPSHOT', [string] $(if ($command -cne 'Get-VMSecurity') { $script:HvOfSnapshot }))
    $text = $text.Replace('EXTRA', [string] $script:HvExtra[$command]).Replace('CALL', $script:HvReaders[$command])
    $text = $text.Replace('COMMAND', $command.Replace('-', ''))
    # The text comes from this file only. Invoke-Expression defines the functions in this module.
    Invoke-Expression "function script:$command {`n$text`n}"
}

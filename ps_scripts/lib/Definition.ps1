# A VM's definition as plain values: numbers for enums, text for ids and times, arrays for lists.

function Select-HvpsMember {
    <#
    .SYNOPSIS
    The named members of an object as plain values; null if this version of the module does not have them.
    #>
    [CmdletBinding()]
    [OutputType([Collections.Specialized.OrderedDictionary])]
    param(
        [Parameter(Mandatory = $true)] [object] $InputObject,
        [Parameter(Mandatory = $true)] [string[]] $Name
    )
    $values = [ordered]@{}
    foreach ($member in $Name) {
        $value = Get-HvpsOptional -InputObject $InputObject -Name $member
        if ($value -is [Enum]) {
            $value = [long] $value
        }
        elseif ($value -is [guid] -or $value -is [version]) {
            $value = [string] $value
        }
        elseif ($value -is [Collections.IEnumerable] -and $value -isnot [string]) {
            $value = @($value | ForEach-Object { if ($_ -is [Enum]) { [long] $_ } else { [string] $_ } })
        }
        $values[$member] = $value
    }
    $values
}

function Get-HvpsDefinition {
    <#
    .SYNOPSIS
    The definition of a VM as nested dictionaries.
    #>
    [CmdletBinding()]
    [OutputType([Collections.Specialized.OrderedDictionary])]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    $definition = [ordered]@{ format = 1 }
    $definition['vm'] = Select-HvpsMember -InputObject $Vm -Name @(
        'Id', 'Name', 'Generation', 'Version', 'Notes', 'CheckpointType', 'AutomaticCheckpointsEnabled',
        'AutomaticStartAction', 'AutomaticStartDelay', 'AutomaticStopAction', 'AutomaticCriticalErrorAction',
        'AutomaticCriticalErrorActionTimeout', 'Path', 'ConfigurationLocation', 'SnapshotFileLocation',
        'SmartPagingFilePath', 'GuestControlledCacheTypes', 'LowMemoryMappedIoSpace', 'HighMemoryMappedIoSpace',
        'LockOnDisconnect', 'EnhancedSessionTransportType', 'IsClustered')
    $processor = Hyper-V\Get-VMProcessor -VM $Vm -ErrorAction Stop
    $definition['processor'] = Select-HvpsMember -InputObject $processor -Name @(
        'Count', 'Maximum', 'Reserve', 'RelativeWeight', 'ExposeVirtualizationExtensions',
        'CompatibilityForMigrationEnabled', 'CompatibilityForOlderOperatingSystemsEnabled',
        'HwThreadCountPerCore', 'MaximumCountPerNumaNode', 'MaximumCountPerNumaSocket',
        'EnableHostResourceProtection')
    $memory = Hyper-V\Get-VMMemory -VM $Vm -ErrorAction Stop
    $definition['memory'] = Select-HvpsMember -InputObject $memory -Name @(
        'Startup', 'Minimum', 'Maximum', 'MaximumPerNumaNode', 'Buffer', 'Priority', 'DynamicMemoryEnabled')
    if (2 -eq [int] $Vm.Generation) {
        $firmware = Hyper-V\Get-VMFirmware -VM $Vm -ErrorAction Stop
        $definition['firmware'] = Select-HvpsMember -InputObject $firmware -Name @(
            'SecureBoot', 'SecureBootTemplate', 'SecureBootTemplateId', 'PreferredNetworkBootProtocol',
            'ConsoleMode', 'PauseAfterBootFailure')
        $definition['firmware']['BootOrder'] = @(Get-HvpsBootOrder -Firmware $firmware)
    }
    else {
        $bios = Hyper-V\Get-VMBios -VM $Vm -ErrorAction Stop
        $definition['bios'] = Select-HvpsMember -InputObject $bios -Name @('NumLockEnabled', 'StartupOrder')
    }
    $definition['disks'] = @(Get-HvpsDriveDefinition -Vm $Vm)
    $definition['scsi_controllers'] = @(Hyper-V\Get-VMScsiController -VM $Vm -ErrorAction Stop).Count
    $definition['dvd'] = @(Hyper-V\Get-VMDvdDrive -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ } |
            ForEach-Object {
            Select-HvpsMember -InputObject $_ -Name @(
                'ControllerType', 'ControllerNumber', 'ControllerLocation', 'Path')
        })
    $definition['network'] = @(Get-HvpsNetworkDefinition -Vm $Vm)
    $security = Hyper-V\Get-VMSecurity -VM $Vm -ErrorAction Stop
    $definition['security'] = Select-HvpsMember -InputObject $security -Name @(
        'TpmEnabled', 'KsdEnabled', 'Shielded', 'EncryptStateAndVmMigrationTraffic',
        'VirtualizationBasedSecurityOptOut', 'BindToHostTpm')
    $protector = Hyper-V\Get-VMKeyProtector -VM $Vm -ErrorAction Stop
    $definition['key_protector'] = $null
    if ($null -ne $protector -and @($protector).Count -gt 0) {
        $definition['key_protector'] = [Convert]::ToBase64String([byte[]] $protector)
    }
    $definition['integration_services'] = @(Hyper-V\Get-VMIntegrationService -VM $Vm -ErrorAction Stop |
            ForEach-Object { Select-HvpsMember -InputObject $_ -Name @('Id', 'Enabled') })
    $definition
}

function Get-HvpsBootOrder {
    <#
    .SYNOPSIS
    What the boot entries start: the slot of a drive, the id of an adapter, or a file.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Firmware)
    foreach ($entry in @($Firmware.BootOrder | Where-Object { $null -ne $_ })) {
        $boot = Select-HvpsMember -InputObject $entry -Name @('BootType', 'Description', 'FirmwarePath')
        $device = Get-HvpsOptional -InputObject $entry -Name Device
        if ($null -ne $device) {
            $boot['Device'] = Select-HvpsMember -InputObject $device -Name @(
                'ControllerType', 'ControllerNumber', 'ControllerLocation', 'AdapterId')
        }
        $boot
    }
}

function Get-HvpsDriveDefinition {
    <#
    .SYNOPSIS
    Disk drives with slot, limits and files, or why a file cannot be queried.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    foreach ($row in @(Get-HvpsDriveChain -Vm $Vm)) {
        $disk = Select-HvpsMember -InputObject $row.Drive -Name @(
            'ControllerType', 'ControllerNumber', 'ControllerLocation', 'Path', 'DiskNumber',
            'SupportPersistentReservations', 'MinimumIOPS', 'MaximumIOPS', 'QoSPolicyID', 'WriteHardeningMethod')
        $chain = @($row.Chain)
        if ($null -ne $row.Problem) {
            $disk['Problem'] = $row.Problem.FullyQualifiedErrorId.Split(',')[0]
        }
        elseif ($chain.Count -gt 0) {
            $disk['Vhd'] = Select-HvpsMember -InputObject $chain[0] -Name @(
                'VhdFormat', 'VhdType', 'Size', 'BlockSize', 'LogicalSectorSize', 'PhysicalSectorSize',
                'DiskIdentifier')
            # A new disk should have the kind and block size of the base of the chain.
            $disk['Base'] = Select-HvpsMember -InputObject $chain[-1] -Name @('VhdType', 'BlockSize')
        }
        $disk
    }
}

function Get-HvpsNetworkDefinition {
    <#
    .SYNOPSIS
    Network adapters with address, switch, VLAN and security settings.
    #>
    [CmdletBinding()]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ })) {
        $network = Select-HvpsMember -InputObject $adapter -Name @(
            'Name', 'Id', 'AdapterId', 'IsLegacy', 'MacAddress', 'DynamicMacAddressEnabled', 'SwitchName',
            'SwitchId', 'ClusterMonitored', 'MacAddressSpoofing', 'DhcpGuard', 'RouterGuard', 'AllowTeaming',
            'IeeePriorityTag', 'DeviceNaming', 'VMQWeight', 'IovWeight', 'PortMirroringMode',
            'DynamicIPAddressLimit', 'StormLimit')
        $vlan = Hyper-V\Get-VMNetworkAdapterVlan -VMNetworkAdapter $adapter -ErrorAction Stop
        $network['Vlan'] = Select-HvpsMember -InputObject $vlan -Name @(
            'OperationMode', 'AccessVlanId', 'NativeVlanId', 'PrimaryVlanId', 'SecondaryVlanId',
            'AllowedVlanIdListString', 'PrivateVlanMode')
        $network
    }
}

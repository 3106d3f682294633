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

function Add-HvpsSection {
    <#
    .SYNOPSIS
    Adds what a block returns to a definition. If it fails, the section is null and the problems say why.
    .PARAMETER List
    The section is an array.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [Collections.Specialized.OrderedDictionary] $Definition,
        [Parameter(Mandatory = $true)] [string] $Section,
        [Parameter(Mandatory = $true)] [scriptblock] $Read,
        [switch] $List
    )
    $Definition[$Section] = $null
    try {
        $found = @(& $Read)
        if ($List) {
            $Definition[$Section] = $found
        }
        elseif ($found.Count -gt 0) {
            $Definition[$Section] = $found[0]
        }
    }
    catch {
        Add-HvpsProblem -Definition $Definition -Section $Section -Record $_
    }
}

function Add-HvpsProblem {
    <#
    .SYNOPSIS
    Adds to a definition why a section could not be read.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [Collections.Specialized.OrderedDictionary] $Definition,
        [Parameter(Mandatory = $true)] [string] $Section,
        [Parameter(Mandatory = $true)] [Management.Automation.ErrorRecord] $Record
    )
    $problem = ConvertTo-HvpsError -Record $Record
    $Definition['problems'] += , [ordered]@{
        section = $Section
        error   = [string] $problem.FullyQualifiedErrorId
        message = [string] $problem.Exception.Message
    }
}

function Get-HvpsDefinition {
    <#
    .SYNOPSIS
    The definition of a VM as nested dictionaries; what cannot be read is null and named in problems.
    #>
    [CmdletBinding()]
    [OutputType([Collections.Specialized.OrderedDictionary])]
    param([Parameter(Mandatory = $true)] [object] $Vm)
    $definition = [ordered]@{ format = 1; problems = @() }
    $sections = [ordered]@{
        vm        = {
            Select-HvpsMember -InputObject $Vm -Name @(
                'Id', 'Name', 'Generation', 'Version', 'Notes', 'CheckpointType', 'AutomaticCheckpointsEnabled',
                'AutomaticStartAction', 'AutomaticStartDelay', 'AutomaticStopAction',
                'AutomaticCriticalErrorAction', 'AutomaticCriticalErrorActionTimeout', 'Path',
                'ConfigurationLocation', 'SnapshotFileLocation', 'SmartPagingFilePath',
                'GuestControlledCacheTypes', 'LowMemoryMappedIoSpace', 'HighMemoryMappedIoSpace',
                'LockOnDisconnect', 'EnhancedSessionTransportType', 'IsClustered')
        }
        processor = {
            Select-HvpsMember -InputObject (Hyper-V\Get-VMProcessor -VM $Vm -ErrorAction Stop) -Name @(
                'Count', 'Maximum', 'Reserve', 'RelativeWeight', 'ExposeVirtualizationExtensions',
                'CompatibilityForMigrationEnabled', 'CompatibilityForOlderOperatingSystemsEnabled',
                'HwThreadCountPerCore', 'MaximumCountPerNumaNode', 'MaximumCountPerNumaSocket',
                'EnableHostResourceProtection')
        }
        memory    = {
            Select-HvpsMember -InputObject (Hyper-V\Get-VMMemory -VM $Vm -ErrorAction Stop) -Name @(
                'Startup', 'Minimum', 'Maximum', 'MaximumPerNumaNode', 'Buffer', 'Priority',
                'DynamicMemoryEnabled')
        }
    }
    $generation = 0
    try {
        $generation = [int] $Vm.Generation
    }
    catch {
        Add-HvpsProblem -Definition $definition -Section firmware -Record $_
    }
    if ($generation -eq 2) {
        $sections['firmware'] = {
            $firmware = Hyper-V\Get-VMFirmware -VM $Vm -ErrorAction Stop
            $values = Select-HvpsMember -InputObject $firmware -Name @(
                'SecureBoot', 'SecureBootTemplate', 'SecureBootTemplateId', 'PreferredNetworkBootProtocol',
                'ConsoleMode', 'PauseAfterBootFailure')
            $values['BootOrder'] = @(Get-HvpsBootOrder -Firmware $firmware)
            $values
        }
    }
    elseif ($generation -eq 1) {
        $sections['bios'] = {
            Select-HvpsMember -InputObject (Hyper-V\Get-VMBios -VM $Vm -ErrorAction Stop) -Name @(
                'NumLockEnabled', 'StartupOrder')
        }
    }
    $sections['security'] = {
        Select-HvpsMember -InputObject (Hyper-V\Get-VMSecurity -VM $Vm -ErrorAction Stop) -Name @(
            'TpmEnabled', 'KsdEnabled', 'Shielded', 'EncryptStateAndVmMigrationTraffic',
            'VirtualizationBasedSecurityOptOut', 'BindToHostTpm')
    }
    $sections['key_protector'] = {
        $protector = Hyper-V\Get-VMKeyProtector -VM $Vm -ErrorAction Stop
        if ($null -ne $protector -and @($protector).Count -gt 0) {
            [Convert]::ToBase64String([byte[]] $protector)
        }
    }
    $sections['scsi_controllers'] = { @(Hyper-V\Get-VMScsiController -VM $Vm -ErrorAction Stop).Count }
    foreach ($section in @($sections.Keys)) {
        Add-HvpsSection -Definition $definition -Section $section -Read $sections[$section]
    }
    Add-HvpsSection -Definition $definition -Section disks -List -Read {
        Get-HvpsDriveDefinition -Vm $Vm -Definition $definition
    }
    Add-HvpsSection -Definition $definition -Section dvd -List -Read {
        Hyper-V\Get-VMDvdDrive -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ } | ForEach-Object {
            Select-HvpsMember -InputObject $_ -Name @(
                'ControllerType', 'ControllerNumber', 'ControllerLocation', 'Path')
        }
    }
    Add-HvpsSection -Definition $definition -Section network -List -Read {
        Get-HvpsNetworkDefinition -Vm $Vm -Definition $definition
    }
    Add-HvpsSection -Definition $definition -Section integration_services -List -Read {
        Hyper-V\Get-VMIntegrationService -VM $Vm -ErrorAction Stop |
            ForEach-Object { Select-HvpsMember -InputObject $_ -Name @('Id', 'Enabled') }
    }
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
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [Collections.Specialized.OrderedDictionary] $Definition
    )
    foreach ($row in @(Get-HvpsDriveChain -Vm $Vm)) {
        $disk = Select-HvpsMember -InputObject $row.Drive -Name @(
            'ControllerType', 'ControllerNumber', 'ControllerLocation', 'Path', 'DiskNumber',
            'SupportPersistentReservations', 'MinimumIOPS', 'MaximumIOPS', 'QoSPolicyID', 'WriteHardeningMethod')
        $chain = @($row.Chain)
        if ($null -ne $row.Problem) {
            $disk['Problem'] = $row.Problem.FullyQualifiedErrorId.Split(',')[0]
            Add-HvpsProblem -Definition $Definition -Section disks -Record $row.Problem
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
    Network adapters with address, switch, VLAN, bandwidth and security settings.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)] [object] $Vm,
        [Parameter(Mandatory = $true)] [Collections.Specialized.OrderedDictionary] $Definition
    )
    foreach ($adapter in @(Hyper-V\Get-VMNetworkAdapter -VM $Vm -ErrorAction Stop | Where-Object { $null -ne $_ })) {
        $network = Select-HvpsMember -InputObject $adapter -Name @(
            'Name', 'Id', 'AdapterId', 'IsLegacy', 'MacAddress', 'DynamicMacAddressEnabled', 'SwitchName',
            'SwitchId', 'ClusterMonitored', 'MacAddressSpoofing', 'DhcpGuard', 'RouterGuard', 'AllowTeaming',
            'IeeePriorityTag', 'DeviceNaming', 'VMQWeight', 'IovWeight', 'PortMirroringMode',
            'DynamicIPAddressLimit', 'StormLimit')
        $network['Bandwidth'] = $null
        $bandwidth = Get-HvpsOptional -InputObject $adapter -Name BandwidthSetting
        if ($null -ne $bandwidth) {
            # Bits per second, and a share.
            $network['Bandwidth'] = Select-HvpsMember -InputObject $bandwidth -Name @(
                'MaximumBandwidth', 'MinimumBandwidthAbsolute', 'MinimumBandwidthWeight')
        }
        $network['Vlan'] = $null
        try {
            $vlan = Hyper-V\Get-VMNetworkAdapterVlan -VMNetworkAdapter $adapter -ErrorAction Stop
            $network['Vlan'] = Select-HvpsMember -InputObject $vlan -Name @(
                'OperationMode', 'AccessVlanId', 'NativeVlanId', 'PrimaryVlanId', 'SecondaryVlanId',
                'AllowedVlanIdListString', 'PrivateVlanMode')
        }
        catch {
            Add-HvpsProblem -Definition $Definition -Section vlan -Record $_
        }
        $network
    }
}

# The module's commands.

# Objects of a reply to the pipeline, refusals to the error stream.
function Write-HvReply($Cmdlet, [string] $Command, [hashtable] $Reply, $Target) {
    if ($Reply.ContainsKey('error')) {
        Write-HvRefusal $Cmdlet $Command $Reply['error'] $Target
        return
    }
    $rows = $Reply['result']
    if ($rows -is [hashtable]) {
        foreach ($refused in $rows['refused']) {
            Write-HvRefusal $Cmdlet $Command $refused $refused['target']
        }
        $rows = $rows['objects']
    }
    foreach ($row in $rows) {
        $Cmdlet.WriteObject((New-HvObject $row))
    }
}

# A non-terminating VirtualizationException. The command's own name follows in the FullyQualifiedErrorId.
function Write-HvRefusal($Cmdlet, [string] $Command, [hashtable] $Refusal, $Target) {
    $exception = [Microsoft.HyperV.PowerShell.VirtualizationException]::new([string] $Refusal['message'])
    $category = [Management.Automation.ErrorCategory] $Refusal['category']
    $exception.ErrorIdentifier = $Refusal['identifier']
    $exception.ErrorCategory = $category
    $exception.TargetObject = $Target
    $space = $(if ($Command -ceq 'GetVHD') { 'Microsoft.Vhd.PowerShell.Cmdlets' } else { 'Microsoft.HyperV.PowerShell.Commands' })
    $id = '{0},{1}.{2}' -f $Refusal['identifier'], $space, $Command
    $Cmdlet.WriteError([Management.Automation.ErrorRecord]::new($exception, $id, $category, $Target))
}

# The host asked is always this one: a second hop is not simulated.
function Assert-HvLocal($Cmdlet, [string] $Command, [hashtable] $Bound) {
    foreach ($name in 'CimSession', 'Credential', 'ComputerName') {
        if ($Bound.ContainsKey($name) -and ($name -cne 'ComputerName' -or
                @($Bound[$name] | Where-Object { $_ -notin 'localhost', '.', $env:HVPS_SIM_NODE }).Count)) {
            $refusal = @{ message = "$name is not simulated"; identifier = 'AccessDenied'; category = 'PermissionDenied' }
            Write-HvRefusal $Cmdlet $Command $refusal $null
            return $false
        }
    }
    $true
}

# Ids of the VMs that -VM or -VMName named; errors for names that are not there.
function Get-HvTarget($Cmdlet, [string] $Command, [hashtable] $Bound) {
    if (-not (Assert-HvLocal $Cmdlet $Command $Bound)) {
        return
    }
    if ($Bound.ContainsKey('VM')) {
        foreach ($vm in $Bound['VM']) {
            [string] $vm.Id
        }
        return
    }
    $reply = Invoke-Model 'vm.machines' @{ names = [string[]] $Bound['VMName'] }
    foreach ($refused in $reply['result']['refused']) {
        Write-HvRefusal $Cmdlet $Command $refused $refused['target']
    }
    foreach ($row in $reply['result']['objects']) {
        $row['Id']
    }
}

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

function Get-VMHardDiskDrive {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true, ValueFromPipeline = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'VMSnapshot', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot,
        [Parameter(ParameterSetName = 'VMDriveController', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [object[]] $VMDriveController,
        [Nullable[Microsoft.HyperV.PowerShell.ControllerType]] $ControllerType,
        [Nullable[int]] $ControllerNumber,
        [Nullable[int]] $ControllerLocation,
        [Parameter(ParameterSetName = 'VMName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'VMName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'VMName')] [pscredential] $Credential
    )
    process {
        $replies = @()
        if ($PSCmdlet.ParameterSetName -ceq 'VMSnapshot') {
            $replies = @(Invoke-Model 'vm.drives' @{ snapshot = [string] $VMSnapshot.Id })
        }
        else {
            $replies = @(Get-HvTarget $PSCmdlet 'GetVMHardDiskDriveCommand' $PSBoundParameters |
                    ForEach-Object { Invoke-Model 'vm.drives' @{ vm = $_ } })
        }
        foreach ($reply in $replies) {
            if ($reply.ContainsKey('result')) {
                $reply['result'] = @($reply['result'] | Where-Object {
                        ($null -eq $ControllerType -or [int] $ControllerType -eq $_['ControllerType']) -and
                        ($null -eq $ControllerNumber -or $ControllerNumber -eq $_['ControllerNumber']) -and
                        ($null -eq $ControllerLocation -or $ControllerLocation -eq $_['ControllerLocation'])
                    })
            }
            Write-HvReply $PSCmdlet 'GetVMHardDiskDriveCommand' $reply $VMName
        }
    }
}

function Get-VHD {
    [CmdletBinding(DefaultParameterSetName = 'Path')]
    param(
        [Parameter(ParameterSetName = 'Path', Position = 0, Mandatory = $true, ValueFromPipeline = $true,
            ValueFromPipelineByPropertyName = $true)]
        [Alias('FullName')] [string[]] $Path,
        [Parameter(ParameterSetName = 'Disk', Mandatory = $true)] [Alias('Number')] [uint32] $DiskNumber,
        [Parameter(ParameterSetName = 'VMId', Mandatory = $true)] [Alias('Id')] [guid[]] $VMId,
        [object[]] $CimSession, [string[]] $ComputerName, [pscredential] $Credential
    )
    process {
        if (-not (Assert-HvLocal $PSCmdlet 'GetVHD' $PSBoundParameters)) {
            return
        }
        $paths = $Path
        if ($PSCmdlet.ParameterSetName -ceq 'Disk') {
            $refusal = @{ message = "no disk $DiskNumber"; identifier = 'ObjectNotFound'; category = 'ObjectNotFound' }
            Write-HvRefusal $PSCmdlet 'GetVHD' $refusal $DiskNumber
            return
        }
        if ($PSCmdlet.ParameterSetName -ceq 'VMId') {
            $paths = @($VMId | ForEach-Object { (Invoke-Model 'vm.drives' @{ vm = [string] $_ })['result'] } |
                    ForEach-Object { $_['Path'] })
        }
        Write-HvReply $PSCmdlet 'GetVHD' (Invoke-Model 'vm.vhds' @{ paths = $paths }) $null
    }
}

function Get-VMSnapshot {
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true, ValueFromPipeline = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'Id')] [Nullable[guid]] $Id,
        [Parameter(ParameterSetName = 'Child', Mandatory = $true)] [Microsoft.HyperV.PowerShell.VMSnapshot] $ChildOf,
        [Parameter(ParameterSetName = 'Parent', Mandatory = $true)] [object] $ParentOf,
        [Parameter(Position = 1)] [string] $Name,
        [Alias('VMRecoveryCheckpoint')] [Nullable[Microsoft.HyperV.PowerShell.SnapshotType]] $SnapshotType,
        [object[]] $CimSession, [string[]] $ComputerName, [pscredential] $Credential
    )
    process {
        $replies = @()
        switch ($PSCmdlet.ParameterSetName) {
            'Id' { $replies = @(Invoke-Model 'vm.snapshots' @{ id = [string] $Id }) }
            'Child' {
                $all = Invoke-Model 'vm.snapshots' @{ vm = [string] $ChildOf.VMId }
                $all['result']['objects'] = @($all['result']['objects'] | Where-Object { $_['ParentSnapshotId'] -eq [string] $ChildOf.Id })
                $replies = @($all)
            }
            'Parent' {
                $owner = $(if ($ParentOf -is [Microsoft.HyperV.PowerShell.VirtualMachine]) { $ParentOf.Id } else { $ParentOf.VMId })
                $all = Invoke-Model 'vm.snapshots' @{ vm = [string] $owner }
                $all['result']['objects'] = @($all['result']['objects'] | Where-Object { $_['Id'] -eq [string] $ParentOf.ParentSnapshotId })
                $replies = @($all)
            }
            default {
                $replies = @(Get-HvTarget $PSCmdlet 'GetVMSnapshot' $PSBoundParameters |
                        ForEach-Object { Invoke-Model 'vm.snapshots' @{ vm = $_ } })
            }
        }
        foreach ($reply in $replies) {
            $filtered = $PSBoundParameters.ContainsKey('Name') -or $null -ne $SnapshotType
            if ($filtered -and $reply.ContainsKey('result')) {
                $kept = @($reply['result']['objects'] | Where-Object {
                        (-not $Name -or $_['Name'] -like $Name) -and
                        ($null -eq $SnapshotType -or [int] $SnapshotType -eq $_['SnapshotType'])
                    })
                $reply['result']['objects'] = $kept
                if (-not $kept.Count) {
                    # Nothing for a filter is an error (docs/hyperv-facts.md#snapshot-types).
                    $refusal = @{ message = 'no checkpoint fits'; identifier = 'ObjectNotFound'; category = 'ObjectNotFound' }
                    Write-HvRefusal $PSCmdlet 'GetVMSnapshot' $refusal $Name
                }
            }
            Write-HvReply $PSCmdlet 'GetVMSnapshot' $reply $VMName
        }
    }
}

function Checkpoint-VM {
    [CmdletBinding(SupportsShouldProcess = $true, DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true)] [Alias('VMName')] [string[]] $Name,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(Position = 1)] [Alias('CheckpointName')] [string] $SnapshotName = '',
        [switch] $AsJob, [switch] $Passthru,
        [Parameter(ParameterSetName = 'VMName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'VMName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'VMName')] [pscredential] $Credential
    )
    process {
        $bound = @{} + $PSBoundParameters
        if ($bound.ContainsKey('Name')) {
            $bound['VMName'] = $Name
        }
        foreach ($id in @(Get-HvTarget $PSCmdlet 'CheckpointVM' $bound)) {
            if ($PSCmdlet.ShouldProcess($id)) {
                $reply = Invoke-Model 'vm.checkpoint_vm' @{ vm = $id; name = $SnapshotName }
                if (-not $Passthru -and $reply.ContainsKey('result')) {
                    continue
                }
                Write-HvReply $PSCmdlet 'CheckpointVM' $reply $id
            }
        }
    }
}

function Rename-VMSnapshot {
    [CmdletBinding(SupportsShouldProcess = $true, DefaultParameterSetName = 'SnapshotName')]
    param(
        [Parameter(ParameterSetName = 'SnapshotObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine] $VM,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 0, Mandatory = $true)]
        [Parameter(ParameterSetName = 'VMObject', Position = 1, Mandatory = $true)] [string] $Name,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 1, Mandatory = $true)] [string] $VMName,
        [Parameter(Position = 2, Mandatory = $true)] [string] $NewName,
        [Parameter(ParameterSetName = 'SnapshotName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'SnapshotName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'SnapshotName')] [pscredential] $Credential,
        [switch] $Passthru
    )
    process {
        $ids = @()
        if ($PSCmdlet.ParameterSetName -ceq 'SnapshotObject') {
            $ids = @([string] $VMSnapshot.Id)
        }
        else {
            $ids = @(Get-HvTarget $PSCmdlet 'RenameVMSnapshot' $PSBoundParameters |
                    ForEach-Object { (Invoke-Model 'vm.snapshots' @{ vm = $_ })['result']['objects'] } |
                    Where-Object { $_['Name'] -ceq $Name } | ForEach-Object { $_['Id'] })
        }
        foreach ($id in $ids) {
            if ($PSCmdlet.ShouldProcess($id)) {
                Write-HvReply $PSCmdlet 'RenameVMSnapshot' (Invoke-Model 'vm.rename_snapshot' @{ snapshot = $id; name = $NewName }) $id
                if ($Passthru) {
                    Write-HvReply $PSCmdlet 'RenameVMSnapshot' (Invoke-Model 'vm.snapshots' @{ id = $id }) $id
                }
            }
        }
    }
}

function Remove-VMSnapshot {
    [CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'Medium', DefaultParameterSetName = 'SnapshotName')]
    param(
        [Parameter(ParameterSetName = 'SnapshotObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot[]] $VMSnapshot,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 0, Mandatory = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'SnapshotName', Position = 1)] [string[]] $Name,
        [switch] $IncludeAllChildSnapshots, [switch] $AsJob, [switch] $Passthru,
        [Parameter(ParameterSetName = 'SnapshotName')] [object[]] $CimSession,
        [Parameter(ParameterSetName = 'SnapshotName')] [string[]] $ComputerName,
        [Parameter(ParameterSetName = 'SnapshotName')] [pscredential] $Credential
    )
    process {
        $ids = @()
        if ($PSCmdlet.ParameterSetName -ceq 'SnapshotObject') {
            $ids = @($VMSnapshot | ForEach-Object { [string] $_.Id })
        }
        else {
            $ids = @(Get-HvTarget $PSCmdlet 'RemoveVMSnapshot' $PSBoundParameters |
                    ForEach-Object { (Invoke-Model 'vm.snapshots' @{ vm = $_ })['result']['objects'] } |
                    Where-Object { $row = $_; -not $Name -or @($Name | Where-Object { $row['Name'] -like $_ }).Count } |
                    ForEach-Object { $_['Id'] })
        }
        foreach ($id in $ids) {
            if ($PSCmdlet.ShouldProcess($id)) {
                Write-HvReply $PSCmdlet 'RemoveVMSnapshot' (Invoke-Model 'vm.remove_snapshot' @{ snapshot = $id }) $id
            }
        }
    }
}

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
        Write-HvReply $PSCmdlet 'GetVMNetworkAdapterVlan' (Invoke-Model 'vm.vlan') $null
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

# Commands that take a VM and show what it has, all alike. -VMSnapshot shows the VM's own.
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
# Parameters that only some of them have.
$script:HvExtra = @{
    'Get-VMDvdDrive'           = '[Nullable[int]] $ControllerNumber, [Nullable[int]] $ControllerLocation,'
    'Get-VMIntegrationService' = '[Parameter(Position = 1)] [string[]] $Name,'
    'Get-VMNetworkAdapter'     = '[string] $Name, [Nullable[bool]] $IsLegacy,'
    'Get-VMScsiController'     = '[Nullable[int]] $ControllerNumber,'
}
foreach ($command in $script:HvReaders.Keys) {
    $text = @'
    [CmdletBinding(DefaultParameterSetName = 'VMName')]
    param(
        [Parameter(ParameterSetName = 'VMName', Position = 0, Mandatory = $true)] [string[]] $VMName,
        [Parameter(ParameterSetName = 'VMObject', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Microsoft.HyperV.PowerShell.VirtualMachine[]] $VM,
        [Parameter(ParameterSetName = 'VMSnapshot', Position = 0, Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('VMCheckpoint')] [Microsoft.HyperV.PowerShell.VMSnapshot] $VMSnapshot,
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
    $text = $text.Replace('EXTRA', [string] $script:HvExtra[$command]).Replace('CALL', $script:HvReaders[$command])
    $text = $text.Replace('COMMAND', $command.Replace('-', ''))
    # The text is this file's own; defining by Invoke-Expression keeps the functions in this module.
    Invoke-Expression "function script:$command {`n$text`n}"
}

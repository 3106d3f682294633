@{
    RootModule        = 'Hyper-V.psm1'
    ModuleVersion     = '2.0.0.0'
    GUID              = 'af4bddd0-8583-4ff2-84b2-a33f5c8de8a7'
    Author            = 'hvpsbridge'
    Description       = 'Stand-in for the Hyper-V module, for simulated hosts.'
    FunctionsToExport = @(
        'Add-VMDvdDrive', 'Add-VMHardDiskDrive', 'Add-VMNetworkAdapter', 'Add-VMScsiController', 'Checkpoint-VM',
        'Connect-VMNetworkAdapter', 'Disable-VMIntegrationService', 'Enable-VMIntegrationService', 'Enable-VMTPM',
        'Get-VHD', 'Get-VM', 'Get-VMBios', 'Get-VMDvdDrive', 'Get-VMFirmware', 'Get-VMHardDiskDrive', 'Get-VMHost',
        'Get-VMHostSupportedVersion', 'Get-VMIntegrationService', 'Get-VMKeyProtector', 'Get-VMMemory',
        'Get-VMNetworkAdapter', 'Get-VMNetworkAdapterVlan', 'Get-VMProcessor', 'Get-VMScsiController',
        'Get-VMSecurity', 'Get-VMSnapshot', 'Get-VMSwitch', 'Move-VMStorage', 'New-VHD', 'New-VM', 'Remove-VM',
        'Remove-VMDvdDrive', 'Remove-VMNetworkAdapter', 'Remove-VMSavedState', 'Remove-VMSnapshot',
        'Rename-VMSnapshot', 'Resize-VHD', 'Restore-VMSnapshot', 'Set-VM', 'Set-VMBios', 'Set-VMFirmware',
        'Set-VMHardDiskDrive', 'Set-VMKeyProtector', 'Set-VMMemory', 'Set-VMNetworkAdapter', 'Set-VMNetworkAdapterVlan',
        'Set-VMProcessor', 'Start-VM', 'Stop-VM')
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @('Get-VMCheckpoint', 'Remove-VMCheckpoint', 'Rename-VMCheckpoint')
}

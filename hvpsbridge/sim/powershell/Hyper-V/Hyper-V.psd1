@{
    RootModule        = 'Hyper-V.psm1'
    ModuleVersion     = '2.0.0.0'
    GUID              = 'af4bddd0-8583-4ff2-84b2-a33f5c8de8a7'
    Author            = 'hvpsbridge'
    Description       = 'Stand-in for the Hyper-V module, for simulated hosts.'
    FunctionsToExport = @(
        'Add-VMHardDiskDrive', 'Checkpoint-VM', 'Get-VHD', 'Get-VM', 'Get-VMBios', 'Get-VMDvdDrive',
        'Get-VMFirmware', 'Get-VMHardDiskDrive', 'Get-VMHost', 'Get-VMHostSupportedVersion',
        'Get-VMIntegrationService', 'Get-VMKeyProtector', 'Get-VMMemory', 'Get-VMNetworkAdapter',
        'Get-VMNetworkAdapterVlan', 'Get-VMProcessor', 'Get-VMScsiController', 'Get-VMSecurity',
        'Get-VMSnapshot', 'Move-VMStorage', 'New-VHD', 'New-VM', 'Remove-VM', 'Remove-VMSnapshot',
        'Rename-VMSnapshot', 'Restore-VMSnapshot', 'Set-VM', 'Start-VM', 'Stop-VM')
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @('Get-VMCheckpoint', 'Remove-VMCheckpoint', 'Rename-VMCheckpoint')
}

@{
    RootModule        = 'Hyper-V.psm1'
    ModuleVersion     = '2.0.0.0'
    GUID              = 'af4bddd0-8583-4ff2-84b2-a33f5c8de8a7'
    Author            = 'hvpsbridge'
    Description       = 'Stand-in for the Hyper-V module, for simulated hosts.'
    FunctionsToExport = @(
        'Checkpoint-VM', 'Get-VHD', 'Get-VM', 'Get-VMBios', 'Get-VMDvdDrive', 'Get-VMFirmware',
        'Get-VMHardDiskDrive', 'Get-VMHost', 'Get-VMHostSupportedVersion', 'Get-VMIntegrationService',
        'Get-VMKeyProtector', 'Get-VMMemory', 'Get-VMNetworkAdapter', 'Get-VMNetworkAdapterVlan',
        'Get-VMProcessor', 'Get-VMScsiController', 'Get-VMSecurity', 'Get-VMSnapshot', 'Remove-VMSnapshot',
        'Rename-VMSnapshot')
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @('Get-VMCheckpoint', 'Remove-VMCheckpoint', 'Rename-VMCheckpoint')
}

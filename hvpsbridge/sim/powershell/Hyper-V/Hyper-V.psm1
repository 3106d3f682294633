# Stand-in for the Hyper-V module. Commands declare the documented parameters (docs/hyperv-facts.md#cmdlet-shapes);
# their output comes from the model. Errors are non-terminating, as the real ones are.
Set-StrictMode -Version 3.0
. "$PSScriptRoot/../Model.ps1"
. "$PSScriptRoot/Types.ps1"
Initialize-HvType
# After the types, which their parameters name.
. "$PSScriptRoot/Replies.ps1"
. "$PSScriptRoot/Machines.ps1"
. "$PSScriptRoot/Disks.ps1"
. "$PSScriptRoot/Snapshots.ps1"
. "$PSScriptRoot/Hardware.ps1"
. "$PSScriptRoot/Administration.ps1"
. "$PSScriptRoot/Settings.ps1"
. "$PSScriptRoot/Devices.ps1"
Set-Alias -Name Get-VMCheckpoint -Value Get-VMSnapshot
Set-Alias -Name Remove-VMCheckpoint -Value Remove-VMSnapshot
Set-Alias -Name Rename-VMCheckpoint -Value Rename-VMSnapshot

# Stand-in for the Hyper-V module. Commands declare the documented parameters (docs/hyperv-facts.md#cmdlet-shapes);
# what they show comes from the model. Refusals are non-terminating errors, as the real ones are.
Set-StrictMode -Version 3.0
. "$PSScriptRoot/../Model.ps1"
. "$PSScriptRoot/Types.ps1"
Initialize-HvType
# After the types: their parameters name them.
. "$PSScriptRoot/Commands.ps1"
Set-Alias -Name Get-VMCheckpoint -Value Get-VMSnapshot
Set-Alias -Name Remove-VMCheckpoint -Value Remove-VMSnapshot
Set-Alias -Name Rename-VMCheckpoint -Value Rename-VMSnapshot

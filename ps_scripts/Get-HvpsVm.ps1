<#
.SYNOPSIS
    Lists VMs of the host, with what decides whether they can be backed up.
.PARAMETER VmId
    Id of one VM; all VMs without it.
.OUTPUTS
    Hvps.VmInfo
      VmId                  guid     id
      Name                  text     not unique
      State                 word     from VMState
      OperationalStatus     int[]    VMOperationalStatus numbers
      Generation            int      1 or 2
      Version               text     configuration version
      CheckpointPolicy      word     CheckpointType setting
      AutomaticCheckpoints  bool     setting
      ParentCheckpointId    guid?    newest checkpoint the VM runs on
      ReplicationMode       word     role in Hyper-V Replica
      IsClustered           bool     highly available
      Shielded              bool     disks are encrypted on the host
      TpmEnabled            bool     virtual TPM
      MergeEnabled          bool     disk merging is not disabled
      CommitForkEvents      int      events 3216 of this VM
      ConfigurationPath     text     folder
      CheckpointPath        text     folder
      UptimeSeconds         int      0 if off
      ProcessorCount        int      virtual processors
      MemoryBytes           int      at start
      SettingsError         text?    why its settings could not be read, in a listing
#>
[CmdletBinding()]
[OutputType('Hvps.VmInfo')]
param(
    [Nullable[guid]] $VmId
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/VmFacts.ps1"
try {
    #% include "lib/HyperV.ps1"
    $forks = Get-HvpsForkEvent
    if ($null -ne $VmId) {
        ConvertTo-HvpsVmInfo -Vm (Get-HvpsVmObject -VmId $VmId) -ForkEvents $forks
    }
    else {
        foreach ($vm in @(Hyper-V\Get-VM -ErrorAction Stop | Where-Object { $null -ne $_ })) {
            try {
                ConvertTo-HvpsVmInfo -Vm $vm -ForkEvents $forks
            }
            catch {
                # A VM that was removed or moved meanwhile is left out. Another one must not hide the others.
                $problem = [string] $_.Exception.Message
                if (@(Hyper-V\Get-VM -ErrorAction Stop | Where-Object { $_.Id -eq $vm.Id }).Count -gt 0) {
                    ConvertTo-HvpsVmInfo -Vm $vm -ForkEvents $forks -Problem $problem
                }
            }
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

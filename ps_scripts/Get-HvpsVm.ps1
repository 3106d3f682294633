<#
.SYNOPSIS
    Lists VMs of the host, with what decides whether they can be backed up.
.PARAMETER VmId
    Id of one VM; all VMs without it.
.PARAMETER ReadEvents
    Read the event log, too.
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
      Shielded              bool?    disks are encrypted on the host; null if unknown
      TpmEnabled            bool?    virtual TPM; null if unknown
      MergeEnabled          bool?    disk merging is not disabled; null if unknown
      CommitForkEvents      int?     events 3216 of this VM since its start; null if they were not read
      LastCommitFork        time?    of the newest of them
      ConfigurationPath     text     folder
      CheckpointPath        text     folder
      UptimeSeconds         int      0 if off
      ProcessorCount        int      virtual processors
      MemoryBytes           int      at start
      SettingsError         text?    which of its settings could not be read
#>
[CmdletBinding()]
[OutputType('Hvps.VmInfo')]
param(
    [Nullable[guid]] $VmId,
    [bool] $ReadEvents
)
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
#% include "lib/Errors.ps1"
#% include "lib/Wmi.ps1"
#% include "lib/VmFacts.ps1"
try {
    #% include "lib/HyperV.ps1"
    $facts = Get-HvpsHostFact -VmId $VmId -ReadEvents $ReadEvents
    if ($null -ne $VmId) {
        $info = ConvertTo-HvpsVmInfo -Vm (Get-HvpsVmObject -VmId $VmId) -Facts $facts
        if ($null -eq $info) {
            throw (New-HvpsError -Id 'Hvps.VmNotFound' -Message "VM $VmId does not exist")
        }
        $info
    }
    else {
        # An error about one VM must not hide those that can be listed, so it comes last.
        $refused = @()
        $failed = @()
        Hyper-V\Get-VM -ErrorAction SilentlyContinue -ErrorVariable refused | Where-Object { $null -ne $_ } |
            ForEach-Object {
                try {
                    ConvertTo-HvpsVmInfo -Vm $_ -Facts $facts
                }
                catch {
                    $failed += $_
                }
            }
        $failed = @($refused) + $failed
        if ($failed.Count -gt 0) {
            throw $failed[0]
        }
    }
}
catch {
    throw (ConvertTo-HvpsError -Record $_)
}

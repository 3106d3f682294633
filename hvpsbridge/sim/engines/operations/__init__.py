"""The operations of the contract, answered from the model, for the builtin engine."""

from hvpsbridge.sim.engines.operations import (
    checkpoints,
    checks,
    configuration,
    definition,
    disks,
    files,
    inventory,
    reader,
    reference_points,
    vms,
)
from hvpsbridge.sim.engines.operations.context import Context, HostProcess, Operation, Stopped

ANSWERS: dict[str, Operation] = {
    "Get-HvpsHost": inventory.get_host,
    "Test-HvpsReader": inventory.test_reader,
    "Get-HvpsAccess": checks.get_access,
    "Test-HvpsDisk": checks.test_disk,
    "Read-HvpsSample": checks.read_sample,
    "Get-HvpsStorage": checks.get_storage,
    "Get-HvpsEvent": checks.get_event,
    "Get-HvpsVm": vms.get_vm,
    "Get-HvpsDisk": inventory.get_disk,
    "Get-HvpsVolume": inventory.get_volume,
    "Get-HvpsVmDefinition": definition.get_definition,
    "Get-HvpsJob": inventory.get_job,
    "Get-HvpsCheckpoint": checkpoints.get_checkpoint,
    "New-HvpsCheckpoint": checkpoints.new_checkpoint,
    "Remove-HvpsCheckpoint": checkpoints.remove_checkpoint,
    "Get-HvpsReferencePoint": reference_points.get_reference_point,
    "ConvertTo-HvpsReferencePoint": reference_points.convert,
    "Remove-HvpsReferencePoint": reference_points.remove_reference_point,
    "Get-HvpsMerge": checkpoints.get_merge,
    "Read-HvpsConfiguration": configuration.read_configuration,
    "Get-HvpsFrozenDisk": disks.get_frozen_disk,
    "Get-HvpsDiskTracking": disks.get_tracking,
    "Get-HvpsDiskChange": disks.get_change,
    "Get-HvpsAllocation": disks.get_allocation,
    "Get-HvpsDiskDigest": disks.get_digest,
    "Close-HvpsReader": disks.close_reader,
    "Read-HvpsExtent": reader.read_extent,
    "Get-HvpsFolder": files.get_folder,
    "New-HvpsFile": files.new_file,
    "Write-HvpsFile": files.write_file,
    "Close-HvpsFile": files.close_file,
    "Move-HvpsFile": files.move_file,
    "Remove-HvpsFile": files.remove_file,
}

__all__ = ["ANSWERS", "Context", "HostProcess", "Operation", "Stopped"]

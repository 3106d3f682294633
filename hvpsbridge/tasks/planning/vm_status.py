"""What the operational status of a VM means to a backup (docs/hyperv-facts.md#operational-status).

A number that is in no table is noted, and the backup is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Waited for: the VM takes no request, or its files or settings are being changed or copied.
BUSY_STATUS: Mapping[int, str] = {
    11: "it is processing a request",
    # The PowerShell module has another number for this than Windows (32769).
    23769: "a checkpoint is being applied",
    32768: "a checkpoint is being created",
    32769: "a checkpoint is being applied",
    32770: "a checkpoint is being deleted",
    32772: "its disks are being merged",
    32773: "it is being exported",
    32774: "it is being migrated",
    32776: "it is being backed up",
    32777: "its settings are being changed",
    32778: "its storage is being migrated",
    32779: "its storage is being migrated",
    32780: "it is being migrated",
}

# Noted: the host decides whether there can be a checkpoint.
NOTED_STATUS: Mapping[int, str] = {
    3: "the host cannot reach the storage of its configuration",
    5: "a volume of its disks is low on free space",
    16: "something that it depends on has failed",
    32781: "the host is checking its compatibility",
    32782: "an application in the guest reports a critical state",
    32783: "the guest does not answer the host",
    32784: "the host cannot communicate with the guest",
    32795: "the host could not write to its disks",
}

# Of no importance: OK, two that Windows does not use, the start delay, and network adapters (SR-IOV).
IGNORED_STATUS = frozenset({2, 10, 15, 32771, 32785, 32786, 32787, 32788, 32789, 32790})


def is_busy(statuses: Iterable[int]) -> bool:
    """Whether one of a VM's statuses is one that a backup waits for."""
    return any(status in BUSY_STATUS for status in statuses)

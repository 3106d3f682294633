"""The backup of one VM: the steps of :mod:`hvpsbridge.tasks.steps` in their order, and the undo."""

from hvpsbridge.tasks.backup.vm import BackupVm
from hvpsbridge.tasks.backup.work import Surroundings

__all__ = ["BackupVm", "Surroundings"]

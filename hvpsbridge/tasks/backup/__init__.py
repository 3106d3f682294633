"""The backup of one VM: the steps of :mod:`hvpsbridge.tasks.steps` in their order, and the undo."""

from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.backup.vm import check, run

__all__ = ["BackupContext", "check", "run"]

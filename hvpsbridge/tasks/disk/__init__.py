"""The backup of one disk: what comes from the host, what the repository has, and what is made of both."""

from hvpsbridge.tasks.disk.backup import DiskBackup
from hvpsbridge.tasks.disk.traffic import Tools

__all__ = ["DiskBackup", "Tools"]

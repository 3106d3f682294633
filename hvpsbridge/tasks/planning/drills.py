"""Names of the VMs of restore drills, which no play selects."""

from __future__ import annotations

import re
from uuid import UUID

# Hyper-V shows no more of a name.
_MAX_NAME = 100
_NAME = re.compile(r"hvps drill [0-9a-f]{8} .", re.IGNORECASE)


def drill_name(restore_id: UUID, vm_name: str) -> str:
    """Name of the VM of a drill of another VM."""
    return f"hvps drill {restore_id.hex[:8]} {vm_name}"[:_MAX_NAME].rstrip()


def is_drill(name: str) -> bool:
    """Whether it is the name of the VM of a drill."""
    return _NAME.match(name) is not None

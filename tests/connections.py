"""How tests reach a simulated host on the loopback interface."""

from __future__ import annotations

from typing import Any

from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.secret import Secret


def basic(url: str, name: str = "hv01", *, password: str = "backup", **settings: Any) -> HostConnection:
    """A connection of the user ``backup`` with Basic; ``settings`` are other fields."""
    return HostConnection(
        name=name,
        address=url,
        user="backup",
        password=Secret(password),
        auth=Authentication.BASIC,
        **settings,
    )

"""A connection to the HOST of a command line."""

from __future__ import annotations

from typing import Any

from hvpsbridge.cli import compose
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import host_name, host_spec
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost


def connection_to(host: str, options: dict[str, Any], invocation: Invocation) -> HostConnection:
    """How to reach HOST."""
    return compose.connection(host_name(host, invocation), host_spec(host, options, invocation), invocation)


def connect(host: str, options: dict[str, Any], invocation: Invocation) -> HyperVHost:
    """A session on HOST."""
    return HyperVHost.connect(connection_to(host, options, invocation), run_id=invocation.run_id)

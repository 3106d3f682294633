"""Engines behind the shells of a simulated host: a real PowerShell, or Python.

PSRP fragments in base64 go in and come out, per pipeline. ``protocols`` has the interface, ``powershell`` and
``builtin`` the implementations.
"""

from hvpsbridge.sim.engines.protocols import Engine, EngineFactory, Sink

__all__ = ["Engine", "EngineFactory", "Sink"]

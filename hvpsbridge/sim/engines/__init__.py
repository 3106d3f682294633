"""What answers behind a shell of the simulated host: a real PowerShell, or Python for machines without it.

The interface is narrow: PSRP fragments go in and come out per pipeline, as the base64 they travel in. See
``protocols`` for the protocols, ``powershell`` and ``builtin`` for the two implementations.
"""

from hvpsbridge.sim.engines.protocols import Engine, EngineFactory, Sink

__all__ = ["Engine", "EngineFactory", "Sink"]

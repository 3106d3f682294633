"""What answers behind a shell of the simulated host: a real PowerShell, or Python for machines without it.

The seam is narrow: PSRP fragments go in and come out per pipeline, as the base64 they travel in. See
``seam`` for the protocols, ``powershell`` and ``builtin`` for the two implementations.
"""

from hvpsbridge.sim.engines.seam import Engine, EngineFactory, Sink

__all__ = ["Engine", "EngineFactory", "Sink"]

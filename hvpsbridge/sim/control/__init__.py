"""Control of a simulated host that runs in another process, through a socket in its state folder.

:class:`ControlServer` runs beside the model; :class:`Control` is what ``hvps sim`` commands use. One JSON
line asks, one answers. Paths in requests are opened by the serving process, which has the same user.
"""

from hvpsbridge.sim.control.client import Control, SimulatedCheckpoint, SimulatedDisk, SimulatedVm
from hvpsbridge.sim.control.server import ControlServer

__all__ = ["Control", "ControlServer", "SimulatedCheckpoint", "SimulatedDisk", "SimulatedVm"]

"""Control of a simulated host in another process, through a socket in its state folder.

``ControlServer`` runs in the process of the model; ``hvps sim`` commands use ``Control``. Requests and
replies are lines of JSON. The serving process, which has the same user, opens the files that requests name.
"""

from hvpsbridge.sim.control.client import Control, SimulatedCheckpoint, SimulatedDisk, SimulatedVm
from hvpsbridge.sim.control.server import ControlServer

__all__ = ["Control", "ControlServer", "SimulatedCheckpoint", "SimulatedDisk", "SimulatedVm"]

"""The simulated world as others use it: the one door to the model, put together from its parts.

Every public method takes the lock, lets what is due happen (:mod:`lifecycle`), then answers. Methods that
a host would answer take ``node``: the host that is asked; None asks the world. Records returned are the
model's own (:mod:`state`): read them, do not change them.
"""

from __future__ import annotations

from hvpsbridge.sim.model.driver import Driver
from hvpsbridge.sim.model.guests import Guests
from hvpsbridge.sim.model.incidents import Trouble
from hvpsbridge.sim.model.mutations import Changing
from hvpsbridge.sim.model.queries import Looking
from hvpsbridge.sim.model.setup import Building


class Model(Building, Guests, Looking, Changing, Driver, Trouble):
    """A Hyper-V world in a folder.

    Args:
        folder: where state and disks are kept; a world found there is taken up again.
        clock: time; the machine's own by default.
        seed: of everything that is left to chance, for a new world.
        keep_images: whether flat images are kept apart for comparison.

    Attributes:
        knobs: behaviour; change it through :meth:`set_knob` or directly.
        faults: what goes wrong next.
        kept: the images kept apart.
    """

"""What the stand-in PowerShell modules ask: one JSON line per cmdlet call, answered from the model.

The modules in ``sim/powershell`` only declare parameters and build objects; everything they show is decided
here, so that there is one place where Hyper-V's answers are made. A request is ``{"call", "node", ...}``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hvpsbridge.sim.model import Model
from hvpsbridge.sim.standin.cmdlets import Cmdlets
from hvpsbridge.sim.standin.events import events
from hvpsbridge.sim.standin.provider import Provider

# Calls that wait for a job: the world goes on meanwhile.
_WAITING = {"vm.checkpoint_vm", "vm.remove_snapshot"}


class StandIn:
    """Answers calls of the stand-in modules. Thread-safe, since the model is."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def answer(self, request: dict[str, Any]) -> Any:
        """Result of one call, as plain JSON values.

        Raises:
            HyperVError: the host refuses.
            ValueError: the modules and this end disagree, a defect.
        """
        if request["call"] in _WAITING:
            return self._answer(request)
        with self._model.timeline.hold():
            return self._answer(request)

    def _answer(self, request: dict[str, Any]) -> Any:
        arguments = dict(request)
        call, node = str(arguments.pop("call")), arguments.pop("node", None) or None
        family, _, name = call.partition(".")
        if family == "event":
            return events(self._model, node, **arguments)
        target = Provider(self._model, node) if family == "cim" else Cmdlets(self._model, node)
        method: Callable[..., Any] | None = None if name.startswith("_") else getattr(target, name, None)
        if family not in ("cim", "vm") or method is None:
            raise ValueError(f"no stand-in call {call!r}")
        return method(**arguments)

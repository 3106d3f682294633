from __future__ import annotations

from typing import Any

from hvpsbridge.sim.model import Model


class StandIn:
    def __init__(self, model: Model) -> None:
        self._model = model

    def answer(self, request: Any) -> Any:
        return None

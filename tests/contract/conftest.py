"""The two engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import Model
from tests.connections import basic
from tests.contract.sides import Side


@pytest.fixture(scope="module")
def sides(pwsh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    made: dict[str, Side] = {}
    for engine in ("builtin", "powershell"):
        model = Model(tmp_path_factory.mktemp(engine), seed=7)
        # What is reported in excess is random at each query.
        model.set_knob("over_report", 0.0)
        served = SimulatedHost(model, engine=engine)
        served.__enter__()
        connection = basic(served.url, operation_timeout=5)
        made[engine] = Side(model, served, HyperVHost.connect(connection))
    yield made
    for side in made.values():
        side.host.close()
        side.served.close()
        side.model.close()

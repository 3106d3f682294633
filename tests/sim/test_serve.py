"""``serve``: a world served from its folder by a process of its own, steered through control."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from hvpsbridge.contract import CONTRACT
from hvpsbridge.errors import SimulatorError
from hvpsbridge.sim.control import Control
from hvpsbridge.sim.model import Model
from tests.waiting import DEADLINE_SECONDS

PROGRAM = """
import json, sys
from pathlib import Path
from hvpsbridge.sim.server import serve
serve(Path(sys.argv[1]), announce=lambda facts: print(json.dumps(dict(facts)), flush=True))
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], Path]]:
    folder = tmp_path / "world"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline()), folder
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(url: str) -> int:
    wsman = WSMan(
        "127.0.0.1",
        port=int(url.rpartition(":")[2]),
        ssl=False,
        auth="basic",
        encryption="never",
        username="backup",
        password="backup",
    )
    with wsman, RunspacePool(wsman) as pool:
        shell = PowerShell(pool)
        shell.add_script(f"# hvps operation=Get-HvpsVm contract={CONTRACT}\n")
        return len(shell.invoke())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "control"])
def test_it_saves_the_world_when_told_to_end(
    how: signal.Signals | str, served: tuple[subprocess.Popen[str], dict[str, Any], Path]
) -> None:
    process, facts, folder = served
    with Control(folder) as control:
        control.create_vm("made through control")
        assert ask(facts["url"]) == 1
        if isinstance(how, str):
            control.shutdown()
    if isinstance(how, signal.Signals):
        process.send_signal(how)
    assert process.wait(DEADLINE_SECONDS) == 0
    world = Model(folder)
    assert [vm.name for vm in world.vms.all()] == ["made through control"]
    world.close()


def test_faults_and_counters_of_the_wire_are_reached_through_control(
    served: tuple[subprocess.Popen[str], dict[str, Any], Path],
) -> None:
    _, facts, folder = served
    with Control(folder) as control:
        control.set_fault("request_lost:action=command", 2)
        control.set_fault("read_error", 1)
        assert control.faults() == {"request_lost": 2, "read_error": 1}
        for _ in range(2):
            with pytest.raises(requests.exceptions.ConnectionError):
                ask(facts["url"])
        assert control.faults() == {"read_error": 1}
        assert ask(facts["url"]) == 0
        assert control.counters()["operations"] == {"Get-HvpsVm": 1}
        with pytest.raises(SimulatorError, match="unknown fault"):
            control.set_fault("no_such_fault")

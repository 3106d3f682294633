"""A backup in a process of its own, for tests to kill or signal.

The argument of :func:`main` says what to back up where, and which signal the process sends itself at which
step and moment. The result is printed as JSON, if the process lives to print it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from uuid import UUID, uuid4

from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.repository.opening import open_on_store
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.tasks import backup
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.units import MIB
from tests.connections import basic
from tests.tasks.world import QUICK


class Strike(Observer):
    """Sends this process a signal at a step."""

    def __init__(self, step: str, moment: str, number: int) -> None:
        self._at = (step, moment)
        self._number = number

    def step(self, vm: object, step: object, moment: str) -> None:
        if (step.name, moment) == self._at:  # type: ignore[attr-defined]
            os.kill(os.getpid(), self._number)


def connection(url: str) -> HostConnection:
    return basic(url, "HV01")


def main(order: dict[str, str]) -> int:
    run_id = uuid4()
    cancel = Cancellation()

    def connect() -> HyperVHost:
        return HyperVHost.connect(connection(order["url"]), run_id=run_id)

    strike = Strike(order["step"], order["moment"], signal.Signals[order["signal"]])
    with (
        catch_signals(cancel),
        open_on_store(LocalStore(Path(order["store"]))) as repository,
        connect() as host,
    ):
        vm_id = UUID(order["vm"])
        context = backup.BackupContext(
            host=host,
            vm_id=vm_id,
            vm_name=host.vm(vm_id).name,
            options=QUICK,
            repository=repository,
            run_id=run_id,
            observer=strike,
            cancel=cancel,
            budget=ByteBudget(16 * MIB),
            connect=connect,
        )
        result = backup.run(context)
    sys.stdout.write(
        json.dumps(
            {
                "error": None if result.error is None else result.error.kind,
                "left": result.leftovers,
                "point": None if result.point_id is None else str(result.point_id),
            }
        )
    )
    return int(result.exit_code)

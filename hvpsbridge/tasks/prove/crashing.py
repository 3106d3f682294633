"""A backup that is killed before a step, in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace

from hvpsbridge.tasks.backup import vm as backup_of_vm
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.observer import Moment, Observer
from hvpsbridge.tasks.steps import Step


class _Killer(Observer):
    """Kills this process before a step."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def step(self, vm: VmRef, step: Step, moment: Moment) -> None:
        if (step, moment) == (self._step, "before"):
            os.kill(os.getpid(), signal.SIGKILL)


def kill_before(make: Callable[[], BackupContext], step: Step) -> None:
    """Run a backup in a process of its own, which is killed before a step."""
    process = multiprocessing.get_context("fork").Process(target=_victim, args=(make, step))
    process.start()
    process.join()


def _victim(make: Callable[[], BackupContext], step: Step) -> None:
    backup_of_vm.run(replace(make(), observer=_Killer(step)))

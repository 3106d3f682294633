"""Observers of running tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from hvpsbridge.tasks.events import Progress, VmRef
    from hvpsbridge.tasks.planning.plan import VmPlan
    from hvpsbridge.tasks.results import TaskResult
    from hvpsbridge.tasks.steps import Step

logger = logging.getLogger(__name__)

Moment = Literal["before", "after"]


class Observer:
    """Told what happens; ignores it. A subclass overrides what it needs.

    Methods are called from several threads at once, return quickly and never raise.
    """

    def started(self, vm: VmRef, task: str) -> None:
        """A task of a VM begins."""

    def step(self, vm: VmRef, step: Step, moment: Moment) -> None:
        """A backup is before or after one of its steps."""

    def planned(self, vm: VmRef, plan: VmPlan) -> None:
        """The plan was made: mode and reason of each disk."""

    def progress(self, vm: VmRef, progress: Progress) -> None:
        """Bytes moved; called a few times a second for each disk."""

    def noted(self, vm: VmRef, text: str) -> None:
        """Something worth reading happened: a wait, a fallback, leftovers removed."""

    def finished(self, vm: VmRef, result: TaskResult) -> None:
        """A task of a VM ended."""


class ShieldedObserver(Observer):
    """Passes everything on to an observer that may raise: what only shows progress must not end a backup.

    The first exception is logged, all are ignored.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._failed = False

    def _call(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception:
            if not self._failed:
                self._failed = True
                logger.exception("progress cannot be shown")

    def started(self, vm: VmRef, task: str) -> None:
        self._call(self._observer.started, vm, task)

    def step(self, vm: VmRef, step: Step, moment: Moment) -> None:
        self._call(self._observer.step, vm, step, moment)

    def planned(self, vm: VmRef, plan: VmPlan) -> None:
        self._call(self._observer.planned, vm, plan)

    def progress(self, vm: VmRef, progress: Progress) -> None:
        self._call(self._observer.progress, vm, progress)

    def noted(self, vm: VmRef, text: str) -> None:
        self._call(self._observer.noted, vm, text)

    def finished(self, vm: VmRef, result: TaskResult) -> None:
        self._call(self._observer.finished, vm, result)

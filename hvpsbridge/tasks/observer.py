"""Observers of running tasks."""

from __future__ import annotations

from typing import Literal

from hvpsbridge.tasks.events import Progress, VmRef
from hvpsbridge.tasks.planning.plan import VmPlan
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.steps import Step

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

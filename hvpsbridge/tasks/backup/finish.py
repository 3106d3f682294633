"""Rows 9 and 10: conversion and ids, older reference points, merges, and a last look at the host."""

from __future__ import annotations

from dataclasses import replace

from hvpsbridge.contract.results import CheckpointInfo, ReferencePointInfo
from hvpsbridge.errors import HostNotClean
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.backup.context import Work
from hvpsbridge.tasks.cleanup.merge_wait import wait_for_merge
from hvpsbridge.tasks.cleanup.ownership import ids_of
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.lineage import Lineage
from hvpsbridge.tasks.planning.plan import Reason
from hvpsbridge.tasks.policy import Limits, OnUnexpectedFull
from hvpsbridge.tasks.steps import Step

_EXPECTED = tuple(reason.word for reason in Reason if reason.expected)


class Leaving(Work):
    """Converting, retiring and leaving."""

    def _convert(self, point: Point, checkpoint: CheckpointInfo, journal: Journal, lease: Lease) -> None:
        with self._step(Step.CLOSE_READERS):
            while self._readers:
                self._readers[-1].close()
                self._readers.pop()
        with self._step(Step.INTEND_CONVERSION):
            lease.check()
            journal.conversion_intended(checkpoint.checkpoint_id, point.point_id)
        with self._step(Step.CONVERT):
            made = self._host.convert(
                self._vm.vm_id, checkpoint.checkpoint_id, job_seconds=self._policy.limits.job_seconds
            )
        with self._step(Step.RECORD_REFERENCE_POINT):
            journal.reference_point_made(made.instance_id, point.point_id)
        with self._step(Step.PUBLISH_IDS):
            self._publish(point, made)

    def _publish(self, point: Point, made: ReferencePointInfo) -> None:
        if not any(disk.rct_id for disk in point.disks):
            return
        ids = ids_of(point.manifest, made, self._host.disks(self._vm.vm_id))
        if ids is None:
            self._warnings.append(
                "the reference point's ids are not those of the frozen disks: the next backup compares"
            )
            return
        self._repository.catalog.publish_ids(point, ids)

    def _leave(self, journal: Journal, lineage: Lineage, children: tuple[str, ...], lease: Lease) -> None:
        settler = self._settler(self._host, journal)
        left: list[str] = []
        with self._step(Step.RETIRE):
            lease.check()
            left.extend(settler.retire())
        with self._step(Step.MERGE):
            left.extend(
                wait_for_merge(
                    self._host,
                    self._vm.vm_id,
                    children,
                    self._leaving_limits(),
                    self._around.cancel.pause_undo,
                )
            )
        with self._step(Step.CHECK_CLEAN):
            left.extend(settler.unclean())
            self._armed = False
            self._close(journal, tuple(left))
            self._warn_unexpected(lineage)

    def _leaving_limits(self) -> Limits:
        """The limits; somebody who asked to stop waits for a merge no longer than for an undo."""
        limits = self._policy.limits
        if not self._around.cancel.requested:
            return limits
        return replace(limits, merge_seconds=min(limits.merge_seconds, limits.undo_seconds))

    def _close(self, journal: Journal, left: tuple[str, ...]) -> None:
        """Close the run's ledger when nothing is left; else say what is."""
        if left:
            self._leftovers = left
            self._conditions.append(HostNotClean(self._host.name, self._vm.name, left))
        else:
            journal.settled()

    def _warn_unexpected(self, lineage: Lineage) -> None:
        if self._policy.on_unexpected_full is OnUnexpectedFull.ACCEPT:
            return
        for backup in self._backups:
            plan = backup.plan
            if plan.reason.expected or backup.lied_chunks:
                continue
            before = lineage.unexpected_in_a_row(plan.slot, plan.facts.disk_id, _EXPECTED)
            again = f", {before + 1} times in a row now" if before else ""
            self._warnings.append(f"disk {plan.slot}: {plan.mode.value}{again}: {plan.why}")

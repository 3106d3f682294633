"""Finds the VMs of a play: on its hosts, or in its repository if no task needs a host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.errors import Damaged, HvpsError, Interrupted
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.listing import list_vms
from hvpsbridge.tasks.planning.claims import Candidate, Claims, settle
from hvpsbridge.tasks.planning.select import choose_vms, names_vm
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.results import HostProblem

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChosenVm:
    """A VM to work on.

    Attributes:
        rivals: hosts that list it, too, but do not have it.
        without: hosts that were asked in this run and do not list it.
        named: whether the play names it, rather than a pattern that matches it.
    """

    vm: VmRef
    rivals: frozenset[str]
    without: frozenset[str]
    named: bool


class VmFinder:
    """Finds the VMs of the plays of one run, and remembers what their hosts listed.

    Args:
        cancel: stops it.
        on_problem: called with each error; other hosts and VMs are still found.
    """

    def __init__(self, cancel: Cancellation, on_problem: Callable[[HostProblem], None]) -> None:
        self._cancel = cancel
        self._on_problem = on_problem
        # By repository: the hosts that earlier plays found VMs on.
        self._found_on: dict[UUID, dict[UUID, tuple[HostTarget, Candidate]]] = {}
        # Hosts of the plays so far that listed their VMs, all of them.
        self._asked: set[str] = set()

    def find(self, play: PlayRun) -> tuple[ChosenVm, ...]:
        """The selected VMs on all hosts of the play; none once a stop is requested."""
        try:
            claims, complete = self._ask_hosts(play) if play.needs_hosts else self._ask_repository(play)
            return () if self._cancel.requested else self._choose(play, claims, complete=complete)
        except HvpsError as err:
            # Of the repository; errors of hosts never come here.
            self._on_problem(HostProblem(play.host_names, err))
            return ()

    def _ask_hosts(self, play: PlayRun) -> tuple[Claims, bool]:
        """Which host has which VM, and whether every host answered."""
        found_on = self._found_on.setdefault(play.repository.repository_id, {})
        targets = {target.name: target for target in play.hosts}
        listed = list_vms(play.hosts, _newest_host_of(play.repository), self._cancel, found_on)
        found_on.update(
            (vm.vm_id, (targets[vm.host], vm)) for vm in listed.claims.owned if vm.host in targets
        )
        complete = True
        for name, err in listed.errors:
            if isinstance(err, Interrupted):
                continue  # a stop is a problem of the run
            logger.info("host %s: %s", name, err)
            self._on_problem(HostProblem(name, err))
            complete = False
        failed = {name for name, _ in listed.errors}
        self._asked -= failed
        self._asked.update(targets.keys() - failed)
        return listed.claims, complete

    def _ask_repository(self, play: PlayRun) -> tuple[Claims, bool]:
        for err in _lost_wholly(play.repository):
            self._on_problem(HostProblem("", err))
        return settle(_backed_up_from(play)), True

    def _choose(self, play: PlayRun, claims: Claims, *, complete: bool) -> tuple[ChosenVm, ...]:
        vms, problems = choose_vms(
            claims.vms,
            play.vms,
            play.host_names,
            play.limit,
            complete=complete,
            contests=claims.contests,
            newest_host=_newest_host_of(play.repository),
            once_called=lambda name: _once_called(play.repository, name),
        )
        for problem in problems:
            self._on_problem(HostProblem(play.host_names, problem))
        losers = {
            contest.winner.vm_id: contest.losers for contest in claims.contests if contest.winner is not None
        }
        chosen = []
        for vm in vms:
            if not any(vm.host == target.name for target in play.hosts):
                continue  # it is on a host of an earlier play
            rivals = losers.get(vm.vm_id, frozenset())
            without = frozenset(self._asked) - rivals - {vm.host}
            chosen.append(
                ChosenVm(VmRef(vm.host, vm.vm_id, vm.name), rivals, without, names_vm(play.vms, vm))
            )
        return tuple(chosen)


def known_vms(play: PlayRun) -> tuple[VmRef, ...]:
    """The selected VMs that the play's repository has from its hosts."""
    vms, _ = choose_vms(settle(_backed_up_from(play)).vms, play.vms, play.name, play.limit, complete=False)
    return tuple(VmRef(vm.host, vm.vm_id, vm.name) for vm in vms)


def _backed_up_from(play: PlayRun) -> list[Candidate]:
    """VMs whose newest point was made on a host of the play."""
    newest = {point.vm_id: point for point in play.repository.catalog.points()}
    return [
        Candidate(point.vm_id, point.vm_name, target.name)
        for target in play.hosts
        for point in newest.values()
        if point.manifest.host.casefold() == target.name.casefold()
    ]


def _lost_wholly(repository: Repository) -> list[Damaged]:
    """An error for each VM of which no point can be read, so that no task of the play can report it."""
    readable = {point.vm_id for point in repository.catalog.points()}
    lost = {point.vm_id: point for point in repository.catalog.lost_points() if point.vm_id is not None}
    return [
        Damaged(repository.url, point.name, f"{point.what}; no other point of VM {vm_id} can be read")
        for vm_id, point in sorted(lost.items(), key=lambda each: str(each[0]))
        if vm_id not in readable
    ]


def _newest_host_of(repository: Repository) -> Callable[[UUID], str | None]:
    """A function that returns the name of the host on which the newest point of a VM was made."""

    def newest_host(vm_id: UUID) -> str | None:
        points = repository.catalog.points(vm_id)
        return points[-1].manifest.host if points else None

    return newest_host


def _once_called(repository: Repository, name: str) -> frozenset[UUID]:
    """VMs that had this name when a point was made, as far as the repository can be read."""
    folded = name.casefold()
    try:
        return frozenset(
            point.vm_id for point in repository.catalog.points() if point.vm_name.casefold() == folded
        )
    except HvpsError as err:
        logger.info("%s", err)  # a task that needs the points reports it
        return frozenset()

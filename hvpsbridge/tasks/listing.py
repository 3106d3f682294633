"""Which VMs the hosts of a play have."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.errors import HvpsError, Interrupted
from hvpsbridge.tasks.ask import ask_all
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.machines import find_machines
from hvpsbridge.tasks.planning.claims import Candidate, Claims, settle

logger = logging.getLogger(__name__)

# Pauses before hosts that list one VM are asked again. A move ends within moments once both list it.
LIST_AGAIN_SECONDS = (2.0, 8.0)


@dataclass(frozen=True, slots=True)
class Listed:
    """The VMs of the hosts of a play, and the errors of hosts, each with the host's name."""

    claims: Claims
    errors: tuple[tuple[str, HvpsError], ...]


def list_vms(
    targets: Sequence[HostTarget], newest_host: Callable[[UUID], str | None], cancel: Cancellation
) -> Listed:
    """Which host has which VM.

    Hosts that list one VM may be one machine under two names. Otherwise they are asked again, since both
    list a VM that is moving.

    Args:
        targets: the hosts.
        newest_host: as for :func:`~hvpsbridge.tasks.planning.claims.settle`.
        cancel: stops it; then the result is incomplete.
    """
    there: dict[str, tuple[Candidate, ...]] = {}
    errors: dict[tuple[str, str], HvpsError] = {}
    machines: Mapping[str, str] = {}

    def ask(some: Sequence[HostTarget]) -> None:
        answers = ask_all(some, _candidates, cancel)
        for name, (candidates, problems) in answers.of.items():
            there[name] = candidates
            errors.update(((name, str(problem)), problem) for problem in problems)
        # A host that does not answer the second time has not withdrawn what it said.
        errors.update(((name, str(err)), err) for name, err in answers.errors.items())

    def settled() -> Claims:
        vms = [vm for target in targets for vm in there.get(target.name, ())]
        return settle(vms, newest_host, machines)

    ask(targets)
    claims = settled()
    if claims.hosts:
        machines = find_machines([target for target in targets if target.name in claims.hosts], cancel)
        claims = settled()
    for seconds in LIST_AGAIN_SECONDS:
        if not claims.hosts or cancel.requested:
            break
        logger.info("listed by several hosts: %s", "; ".join(str(one.error) for one in claims.contests))
        with contextlib.suppress(Interrupted):
            cancel.pause(seconds)
        ask([target for target in targets if target.name in claims.hosts])
        claims = settled()
    return Listed(claims, tuple((name, err) for (name, _), err in errors.items()))


def _candidates(target: HostTarget) -> tuple[tuple[Candidate, ...], tuple[HvpsError, ...]]:
    with target.connect() as host:
        vms, problems = host.list_vms()
    once = {vm.vm_id: Candidate(vm.vm_id, vm.name, target.name, vm.state, vm.replication_mode) for vm in vms}
    return tuple(once.values()), problems

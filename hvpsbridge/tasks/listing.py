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
    answers = ask_all(targets, _candidates, cancel)
    errors = list(answers.errors.items())

    machines: Mapping[str, str] = {}

    def settled() -> Claims:
        vms = [vm for target in targets for vm in answers.of.get(target.name, ())]
        return settle(vms, newest_host, machines)

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
        again = ask_all([target for target in targets if target.name in claims.hosts], _candidates, cancel)
        # A host that does not answer this time has not withdrawn what it said.
        answers.of.update(again.of)
        errors += again.errors.items()
        claims = settled()
    return Listed(claims, tuple(errors))


def _candidates(target: HostTarget) -> list[Candidate]:
    with target.connect() as host:
        vms = {
            vm.vm_id: Candidate(vm.vm_id, vm.name, target.name, vm.state, vm.replication_mode)
            for vm in host.vms()
        }
    return list(vms.values())

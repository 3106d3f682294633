"""Which VMs the hosts of a play have."""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
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
    targets: Sequence[HostTarget],
    newest_host: Callable[[UUID], str | None],
    cancel: Cancellation,
    found_on: Mapping[UUID, tuple[HostTarget, Candidate]] | None = None,
) -> Listed:
    """Which host has which VM.

    Hosts that list one VM may be one machine under two names. Otherwise they are asked again, since both
    list a VM that is moving.

    Args:
        targets: the hosts.
        newest_host: as for :func:`~hvpsbridge.tasks.planning.claims.settle`.
        cancel: stops it; then the result is incomplete.
        found_on: by VM, what an earlier play found. If ``targets`` list the VM, too, it is contested unless
            that host does not list it any more; that host can then be the winner.
    """
    found_on = found_on or {}
    names = {target.name for target in targets}
    everyone: Sequence[HostTarget] = targets
    shared: dict[str, dict[UUID, Candidate]] = defaultdict(dict)
    there: dict[str, tuple[Candidate, ...]] = {}
    errors: dict[tuple[str, str], HvpsError] = {}
    machines: Mapping[str, str] = {}

    def ask(some: Sequence[HostTarget]) -> None:
        answers = ask_all(some, _candidates, cancel)
        for name, (candidates, problems) in answers.of.items():
            if name not in names:
                there[name] = tuple(vm for vm in candidates if vm.vm_id in shared[name])
                continue
            there[name] = candidates
            errors.update(((name, str(problem)), problem) for problem in problems)
        # A host that does not answer the second time has not withdrawn what it said.
        errors.update(((name, str(err)), err) for name, err in answers.errors.items() if name in names)

    def settled() -> Claims:
        vms = [vm for target in everyone for vm in there.get(target.name, ())]
        return settle(vms, newest_host, machines)

    ask(targets)
    # VMs of earlier plays that a host of this one lists, by the earlier host.
    earlier: dict[str, HostTarget] = {}
    for vm in [vm for listed in there.values() for vm in listed]:
        host, before = found_on.get(vm.vm_id, (None, None))
        if host is not None and before is not None and host.name not in names:
            earlier[host.name] = host
            shared[host.name][vm.vm_id] = before
    there |= {name: tuple(vms.values()) for name, vms in shared.items()}
    everyone = [*targets, *earlier.values()]
    ask(list(earlier.values()))
    claims = settled()
    if claims.hosts:
        machines = find_machines([target for target in everyone if target.name in claims.hosts], cancel)
        for name in earlier:
            if any(machines.get(name) == machines.get(target.name, "") for target in targets):
                del there[name]  # a host of this play under another name
        claims = settled()
    for seconds in LIST_AGAIN_SECONDS:
        if not claims.hosts or cancel.requested:
            break
        logger.info("listed by several hosts: %s", "; ".join(str(one.error) for one in claims.contests))
        with contextlib.suppress(Interrupted):
            cancel.pause(seconds)
        ask([target for target in everyone if target.name in claims.hosts])
        claims = settled()
    return Listed(claims, tuple((name, err) for (name, _), err in errors.items()))


def _candidates(target: HostTarget) -> tuple[tuple[Candidate, ...], tuple[HvpsError, ...]]:
    with target.connect() as host:
        vms, problems = host.list_vms()
    candidates = (Candidate(vm.vm_id, vm.name, target.name, vm.state, vm.replication_mode) for vm in vms)
    return tuple(candidates), problems

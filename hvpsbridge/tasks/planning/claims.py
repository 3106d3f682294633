"""Decides which host has a VM that several hosts list. Pure.

A host can list any VM id, so a host that lists the VM of another does not get it:

- Names of one machine count as one host.
- Of a primary and its replicas in Hyper-V Replica, which have one id, the primary is the VM.
- Otherwise the host of the newest recovery point keeps the VM. Without one, no host gets it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from hvpsbridge.contract.results import ReplicationMode, VmState
from hvpsbridge.errors import VmOnSeveralHosts

# The replica of a replica is called an extended one (docs/hyperv-facts.md#replica-ids).
REPLICAS = frozenset(
    {ReplicationMode.REPLICA, ReplicationMode.TEST_REPLICA, ReplicationMode.EXTENDED_REPLICA}
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A VM that may be selected; ``state`` is None if only the repository was asked."""

    vm_id: UUID
    name: str
    host: str = ""
    state: VmState | None = None
    replication: ReplicationMode = ReplicationMode.NONE


@dataclass(frozen=True, slots=True)
class Contest:
    """A VM that several hosts list.

    Attributes:
        claims: one from each host.
        winner: the one to use; None if nothing says which is the real VM.
        why: how the winner was found, for people.
        proper: whether that is as it should be: a replica beside its primary, or one host under two names.
    """

    claims: tuple[Candidate, ...]
    winner: Candidate | None = None
    why: str = ""
    proper: bool = False

    @property
    def losers(self) -> frozenset[str]:
        """The hosts that do not get the VM in this run."""
        return frozenset(claim.host for claim in self.claims if claim is not self.winner)

    @property
    def error(self) -> VmOnSeveralHosts:
        """What the report says about it."""
        first = self.winner or self.claims[0]
        hosts = ", ".join(claim.host for claim in self.claims)
        done = self.why or "it is backed up from none of them"
        return VmOnSeveralHosts(hosts, first.name, first.vm_id, done)


@dataclass(frozen=True, slots=True)
class Claims:
    """VMs by host.

    Attributes:
        vms: each VM that one host has.
        contests: those that several hosts list.
    """

    vms: tuple[Candidate, ...] = ()
    contests: tuple[Contest, ...] = field(default=())

    @property
    def owned(self) -> tuple[Candidate, ...]:
        """Each VM that a host of the play has, contested or not."""
        return (*self.vms, *(one.winner for one in self.contests if one.winner is not None))

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts of unsettled contests."""
        return frozenset(claim.host for one in self.contests if not one.proper for claim in one.claims)


def settle(
    vms: Iterable[Candidate],
    newest_host: Callable[[UUID], str | None] = lambda vm_id: None,
    machines: Mapping[str, str] | None = None,
) -> Claims:
    """Which host has which VM.

    Args:
        vms: what all hosts list, in the order of the play.
        newest_host: name of the host on which the newest point of a VM was made; asked for contested VMs.
        machines: for names of one machine, the first of them.
    """
    listed: dict[UUID, list[Candidate]] = defaultdict(list)
    for vm in vms:
        listed[vm.vm_id].append(vm)
    sole, contests = [], []
    for vm_id, claims in listed.items():
        if len(claims) == 1:
            sole.append(claims[0])
        else:
            contests.append(_contest(vm_id, claims, newest_host, machines or {}))
    return Claims(tuple(sole), tuple(contests))


def _contest(
    vm_id: UUID,
    claims: Sequence[Candidate],
    newest_host: Callable[[UUID], str | None],
    machines: Mapping[str, str],
) -> Contest:
    everyone = tuple(claims)
    by_machine: dict[str, list[Candidate]] = defaultdict(list)
    for claim in claims:
        by_machine[machines.get(claim.host, claim.host)].append(claim)
    hosts = list(by_machine.values())
    if len(hosts) == 1:
        newest = newest_host(vm_id)
        return Contest(everyone, _named(claims, newest) or claims[0], proper=True)
    originals = [names for names in hosts if names[0].replication not in REPLICAS]
    if len(originals) == 1:
        winner = originals[0][0]
        running = [claim for claim in claims if claim.state is VmState.RUNNING and claim is not winner]
        if winner.state is VmState.RUNNING or not running:
            return Contest(everyone, winner, proper=True)
        why = (
            f"it is backed up from {winner.host}, which has the primary, but it runs on {running[0].host}, "
            "which has the replica: complete the failover"
        )
        return Contest(everyone, winner, why)
    newest = newest_host(vm_id)
    kept = _named(claims, newest)
    if kept is None:
        return Contest(everyone)
    return Contest(everyone, kept, f"it is backed up from {kept.host}, where its newest point was made")


def _named(claims: Iterable[Candidate], host: str | None) -> Candidate | None:
    if host is None:
        return None
    return next((claim for claim in claims if claim.host.casefold() == host.casefold()), None)

"""Which names of hosts mean one machine.

A machine can have any number of names and addresses, and a host can report any id. So the id only tells
machines apart: two names are one machine if each of two sessions lists the other one's shell, whose id is
random and known to nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.tasks.ask import ask_all
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost


@dataclass(frozen=True, slots=True)
class Seen:
    """What a session on a host reports.

    Attributes:
        machine_id: as in ``HostInfo``.
        shell_id: of the session.
        shells: ids of all shells of the host.
    """

    machine_id: UUID | None
    shell_id: str
    shells: frozenset[str]


def same_machine(one: Seen, other: Seen) -> bool:
    """Whether two sessions are on one machine."""
    if one.machine_id != other.machine_id and None not in (one.machine_id, other.machine_id):
        return False
    return (
        one.shell_id != other.shell_id
        and one.shell_id.upper() in other.shells
        and other.shell_id.upper() in one.shells
    )


def find_machines(targets: Sequence[HostTarget], cancel: Cancellation) -> dict[str, str]:
    """For each name, the first name of the same machine. Hosts that do not answer are left out."""
    opened = ask_all(targets, lambda target: target.connect(), cancel).of
    try:
        sessions = [target for target in targets if target.name in opened]
        answers = ask_all(sessions, lambda target: _look(opened[target.name]), cancel).of
    finally:
        for host in opened.values():
            host.close()
    # Answers are in the order in which they came.
    seen = {target.name: answers[target.name] for target in sessions if target.name in answers}
    first = {name: name for name in seen}
    for one, other in combinations(seen, 2):
        if same_machine(seen[one], seen[other]):
            first[other] = first[one]
    return first


def _look(host: HyperVHost) -> Seen:
    info = host.host_info()
    return Seen(info.machine_id, host.shell_id, frozenset(shell.shell_id.upper() for shell in host.shells()))

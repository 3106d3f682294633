"""Restores in the ledger that did not end on a host, and what they keep there, for ``hvps host check``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from hvpsbridge.repository import Repository
from hvpsbridge.tasks.cleanup.restores import open_restores
from hvpsbridge.tasks.host_check import CheckState, HostCheck
from hvpsbridge.tasks.restore.in_place_ledger import open_in_place

TOPIC = "restores"


def check_restores(repository: Repository, machine: str, host: str) -> Iterator[HostCheck]:
    """One row for each restore that did not end or keeps something; one good row if there is none.

    Args:
        repository: with the ledger.
        machine: name of the host as it calls itself.
        host: name of the host in commands.

    Raises:
        RepositoryError: the ledger cannot be read.
    """
    rows = [*_copies(repository, machine, host), *_in_place(repository, machine, host)]
    yield from rows or (HostCheck(TOPIC, CheckState.GOOD, "none is open, and nothing of one is kept"),)


def _copies(repository: Repository, machine: str, host: str) -> Iterator[HostCheck]:
    for one in open_restores(repository, machine):
        what = "drill" if one.intent.expires else "restore"
        text = f"the {what} of VM {one.intent.name} has not ended; files may be in {one.intent.place}"
        if one.intent.config_files:
            text += ", and a planned VM, which no cmdlet lists, on the host"
        remedy = f"if it does not run any more: hvps host sweep {host}"
        if one.intent.expires and datetime.fromisoformat(one.intent.expires) < datetime.now(UTC):
            text += f"; it should have at {one.intent.expires[:16]} UTC"
        yield HostCheck(TOPIC, CheckState.NOTE, text, remedy)


def _in_place(repository: Repository, machine: str, host: str) -> Iterator[HostCheck]:
    for one in open_in_place(repository, machine):
        name = one.restore.vm_name
        if one.kept:
            text = f"what the disks of VM {name} were before a restore is kept"
            remedy = f"hvps host undo {host} {name} puts it back, hvps host forget {host} {name} removes it"
        else:
            text = f"a restore into the disks of VM {name} has not ended"
            remedy = "if it does not run any more: restore the point again with --replace"
        if one.restore.role:
            text += f"; cluster resource {one.restore.role} was taken offline for it"
        yield HostCheck(TOPIC, CheckState.NOTE, text, remedy)

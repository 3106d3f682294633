"""The composition root: opens the repositories and connects the hosts that playbooks and options name.

Nothing else does, so this module shows what a run touches.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.cli import console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.errors import WrongKey
from hvpsbridge.host.connection import HostConnection, HostOptions
from hvpsbridge.playbook.cross_check import matching_hosts
from hvpsbridge.playbook.places import HostSpec, RepositorySpec, SecretRef
from hvpsbridge.playbook.specs import PlaybookSpec, PlaySpec
from hvpsbridge.receiver.throttling import NoRateLimit, TokenBucket
from hvpsbridge.repository import Repository, open_repository
from hvpsbridge.repository.opening import default_cache_folder
from hvpsbridge.repository.stores.urls import check_url
from hvpsbridge.secret import Secret
from hvpsbridge.tasks.host_records import HostRecords, default_state_folder
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.policy import RunLimits
from hvpsbridge.tasks.registry import find_task
from hvpsbridge.tasks.task import play_task
from hvpsbridge.tasks.transfer.limits import SharedLimits, SharedPermits
from hvpsbridge.tasks.transfer.shell_slots import ShellSlots
from hvpsbridge.tasks.transfer.tuning import TuningBook
from hvpsbridge.tasks.transfer.tuning_store import TuningFile

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

logger = logging.getLogger(__name__)

INSECURE = (
    "host {host} is insecure: its certificate is not checked, so anyone who can intercept the connection can "
    "log in there as this account, and read and alter backups; pin it with hvps host trust instead"
)


def connection(name: str, spec: HostSpec, invocation: Invocation) -> HostConnection:
    """The connection to a host, with its password.

    Args:
        name: name of the host in logs, reports and errors.

    Raises:
        ConfigurationError: the keys do not fit together, or the password is unavailable.
    """
    keys = {field.name: getattr(spec, field.name) for field in fields(HostOptions)}
    if spec.password is not None:
        keys["password"] = invocation.secret(spec.password, f"password of host {name}")
    if spec.certificate_key is not None:
        keys["certificate_key"] = invocation.secret(spec.certificate_key, f"certificate_key of host {name}")
    reached = HostConnection(**keys, name=name)
    if reached.insecure:
        console.note(f"hvps: warning: {INSECURE.format(host=name)}")
        logger.info(INSECURE.format(host=name))  # for the log file
    return reached


def repository_key(spec: RepositorySpec, invocation: Invocation) -> Secret | None:
    """The key of an encrypted repository, or None.

    Raises:
        ConfigurationError: the URL of the repository is not valid, or the key is unavailable.
    """
    check_url(spec.url)  # before it is part of a question or a message: it may contain a password
    return None if spec.key is None else invocation.secret(spec.key, f"key of repository {spec.url}")


def repository(spec: RepositorySpec, invocation: Invocation, *, remind: bool = True) -> Repository:
    """An open repository; it is closed when the invocation ends.

    The key of an encrypted repository is asked for on the terminal if the spec has none. A note reminds of
    a key that was never exported, since it would be lost together with the repository.

    Args:
        remind: whether to print that note; false for commands about keys.

    Raises:
        RepositoryError: it does not exist, is too new or encrypted with another key, or its store fails.
    """
    key = repository_key(spec, invocation)
    try:
        opened = open_repository(spec.url, key=key, cache_folder=spec.cache)
    except WrongKey:
        if key is not None or not invocation.can_ask:
            raise
        key = invocation.secret(SecretRef(prompt=f"Key of {spec.url}"), f"key of repository {spec.url}")
        opened = open_repository(spec.url, key=key, cache_folder=spec.cache)
    invocation.closing.enter_context(opened)
    if remind and not opened.keys.exported:
        console.note(f"hvps: the key of {opened.url} was never exported; run hvps key export")
    return opened


def opened_with(spec: RepositorySpec, key: Secret, invocation: Invocation) -> Repository:
    """A repository opened with the given key; it is closed when the invocation ends."""
    opened = open_repository(spec.url, key=key, cache_folder=spec.cache)
    return invocation.closing.enter_context(opened)


def target(name: str, spec: HostSpec, invocation: Invocation) -> HostTarget:
    """A host of a run; nothing is sent before its first session is opened."""
    reached = connection(name, spec, invocation)
    return HostTarget(name, partial(connect, reached, invocation.run_id))


def connect(reached: HostConnection, run_id: UUID) -> HyperVHost:
    """A session with a host.

    Raises:
        HostError: it cannot be opened.
    """
    # Commands that only read a repository would take twice as long to start with the client imported.
    from hvpsbridge.host.hyperv import HyperVHost

    return HyperVHost.connect(reached, run_id=run_id)


def plays(playbook: PlaybookSpec, limit: tuple[str, ...], invocation: Invocation) -> tuple[PlayRun, ...]:
    """The plays of a playbook, ready to run. Each repository is opened and each password read only once.

    Args:
        playbook: with the tasks that ``--tags`` selected.
        limit: patterns of ``--limit``.

    Raises:
        ConfigurationError: a secret is unavailable.
        RepositoryError: a repository cannot be opened.
    """
    names = dict.fromkeys(
        name for play in playbook.plays for name in (*_hosts_of(playbook, play), *_named_by_tasks(play))
    )
    targets = {name: target(name, playbook.hosts[name], invocation) for name in names}
    wanted = dict.fromkeys(play.repository for play in playbook.plays)
    repositories = {name: repository(playbook.repositories[name], invocation) for name in wanted}
    return tuple(
        PlayRun(
            name=play.name,
            hosts=tuple(targets[name] for name in _hosts_of(playbook, play)),
            repository=repositories[play.repository],
            vms=play.vms,
            tasks=tuple(play_task(task.kind, task.options) for task in play.tasks),
            limit=limit,
            named=tuple(targets[name] for name in _named_by_tasks(play)),
        )
        for play in playbook.plays
    )


def _hosts_of(playbook: PlaybookSpec, play: PlaySpec) -> tuple[str, ...]:
    """Names of a play's hosts, each once, in the order of the play."""
    return tuple(dict.fromkeys(name for pattern in play.hosts for name in matching_hosts(playbook, pattern)))


def _named_by_tasks(play: PlaySpec) -> tuple[str, ...]:
    """Names of hosts that the tasks of a play name, each once."""
    return tuple(
        dict.fromkeys(name for task in play.tasks for name in find_task(task.kind).hosts(task.options))
    )


def shared_limits(limits: RunLimits) -> SharedLimits:
    """What all reads of a run share, with these limits."""
    folder = default_cache_folder()
    kept = None if folder is None else TuningFile(folder)
    return SharedLimits(
        permits=SharedPermits(limits),
        rate=NoRateLimit() if limits.rate is None else TokenBucket(limits.rate),
        # A limited read measures the limit, not the host.
        tuning=TuningBook(kept, measures=not limits.limits_reads),
        shells=ShellSlots(limits.shells_per_host),
        records=HostRecords(default_state_folder()),
    )

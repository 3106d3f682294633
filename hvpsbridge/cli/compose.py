"""The composition root: from specs to open repositories, host connections and policies.

Nothing else in hvps reads a spec and makes a live thing of it, so what a run touches can be seen here.
"""

from __future__ import annotations

from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.playbook.specs import BackupOptions, HostSpec, Points, RepositorySpec, VerifyOptions
from hvpsbridge.repository import Repository, open_repository
from hvpsbridge.secret import Secret
from hvpsbridge.tasks.policy import BackupPolicy, Limits, VerifyPolicy


def connection(name: str, spec: HostSpec, invocation: Invocation) -> HostConnection:
    """How a host is reached, its password resolved.

    Args:
        name: what the host is called in logs, reports and errors.

    Raises:
        ConfigurationError: the keys do not fit together, or the password cannot be had.
    """
    password = None
    if spec.password is not None:
        password = invocation.secret(spec.password, f"password of host {name}")
    return HostConnection(
        name=name,
        address=spec.address,
        user=spec.user,
        password=password,
        auth=spec.auth.value,
        ca=spec.ca,
        operation_timeout_seconds=max(1, round(spec.operation_timeout)),
        read_timeout_seconds=max(2, round(spec.read_timeout)),
        connect_timeout_seconds=max(1, round(spec.connect_timeout)),
    )


def repository_key(spec: RepositorySpec, invocation: Invocation) -> Secret | None:
    """The repository's key, or None for a plain one."""
    return None if spec.key is None else invocation.secret(spec.key, f"key of repository {spec.url}")


def repository(spec: RepositorySpec, invocation: Invocation) -> Repository:
    """The repository of a spec, closed when the invocation ends.

    Raises:
        RepositoryError: it is missing, newer, sealed with another key, or its store fails.
    """
    opened = open_repository(spec.url, key=repository_key(spec, invocation), cache_folder=spec.cache)
    return invocation.closing.enter_context(opened)


def backup_policy(options: BackupOptions) -> BackupPolicy:
    """What a playbook's ``backup`` means."""
    return BackupPolicy(
        consistency=options.consistency,
        on_unexpected_full=options.on_unexpected_full,
        proof=options.proof,
        limits=Limits(
            checkpoint_age_seconds=options.limits.checkpoint_age,
            free_space_floor_bytes=options.limits.free_space_floor,
        ),
        force_compare=options.force_compare,
        readers=options.readers,
    )


def verify_policy(options: VerifyOptions) -> VerifyPolicy:
    """What a playbook's ``verify`` means."""
    return VerifyPolicy(
        level=options.level.value,
        every_point=options.points is Points.ALL,
        subset=options.subset,
    )

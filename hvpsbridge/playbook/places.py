"""Where things are: secrets, hosts and repositories, as frozen values of a playbook's keys.

See :mod:`~hvpsbridge.playbook.specs` for how such a declaration is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from hvpsbridge.playbook.types import STRICT, Duration, FilePath, Text, Whole


class Authentication(StrEnum):
    """How a user proves itself to WinRM."""

    BASIC = "basic"
    NTLM = "ntlm"
    NEGOTIATE = "negotiate"
    KERBEROS = "kerberos"


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is. Exactly one key; the value itself never stands in a file."""

    __pydantic_config__ = STRICT

    file: Annotated[
        FilePath | None, Field(description="file whose first line it is; readable by its owner only")
    ] = None
    command: Annotated[
        tuple[Text, ...] | None,
        Field(description="program and arguments, no shell; the first line printed", min_length=1),
    ] = None
    env: Annotated[Text | None, Field(description="environment variable")] = None
    fd: Annotated[Whole | None, Field(description="open file descriptor, read to its end", ge=0)] = None
    prompt: Annotated[Text | None, Field(description="question asked on the terminal")] = None

    def __post_init__(self) -> None:
        given = [name for name in SECRET_KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(SECRET_KINDS)} is wanted, there are {len(given)}")


SECRET_KINDS = ("file", "command", "env", "fd", "prompt")


def _reference_only(value: object) -> object:
    if isinstance(value, str | int | float):
        raise ValueError("a secret is never written here; refer to it by one of " + ", ".join(SECRET_KINDS))
    return value


SecretReference = Annotated[SecretRef, BeforeValidator(_reference_only)]


@dataclass(frozen=True, slots=True)
class HostSpec:
    """How to reach a Hyper-V host."""

    __pydantic_config__ = STRICT

    address: Annotated[
        Text, Field(description="URL of the WinRM listener, or a bare name for https on port 5986")
    ]
    user: Annotated[Text | None, Field(description="account, an administrator of the host")] = None
    auth: Annotated[Authentication, Field(description="how the user proves itself")] = (
        Authentication.NEGOTIATE
    )
    password: Annotated[SecretReference | None, Field(description="where the password is")] = None
    ca: Annotated[FilePath | None, Field(description="CA certificates that sign the host's, PEM")] = None
    operation_timeout: Annotated[
        Duration, Field(description="how long the host may hold one reply", gt=0)
    ] = 20.0
    read_timeout: Annotated[
        Duration, Field(description="how long to wait for a reply; more than operation_timeout", gt=0)
    ] = 30.0
    connect_timeout: Annotated[Duration, Field(description="how long to wait for a connection", gt=0)] = 10.0

    def __post_init__(self) -> None:
        if self.read_timeout <= self.operation_timeout:
            raise ValueError("read_timeout must be more than operation_timeout")


@dataclass(frozen=True, slots=True)
class RepositorySpec:
    """Where recovery points are kept."""

    __pydantic_config__ = STRICT

    url: Annotated[Text, Field(description="path, file://, s3:// or sftp:// URL")]
    key: Annotated[SecretReference | None, Field(description="where the key is, for a sealed one")] = None
    cache: Annotated[FilePath | None, Field(description="folder of the local cache of its index")] = None

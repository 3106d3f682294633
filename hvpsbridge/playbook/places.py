"""Where things are: secrets, hosts and repositories, as frozen values of a playbook's keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from hvpsbridge.host.connection import HostOptions
from hvpsbridge.options import Option


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is. Exactly one key; secrets themselves are never in a file."""

    file: Annotated[
        Path | None,
        Option("file whose first line, or PEM text, is the secret; only its owner may have access"),
    ] = None
    command: Annotated[
        tuple[str, ...] | None,
        Option(
            "program and arguments, run without a shell; the first line, or PEM text, of its output",
            min_items=1,
        ),
    ] = None
    env: Annotated[str | None, Option("environment variable")] = None
    fd: Annotated[int | None, Option("open file descriptor, read to its end", at_least=0)] = None
    prompt: Annotated[str | None, Option("question to ask on the terminal")] = None

    def __post_init__(self) -> None:
        given = [name for name in SECRET_KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"specify exactly one of {', '.join(SECRET_KINDS)}; found {len(given)}")


SECRET_KINDS = ("file", "command", "env", "fd", "prompt")


def _reference_only(value: object) -> object:
    if isinstance(value, str | int | float):
        raise ValueError(
            f"secrets are not allowed here; say where it is with one of {', '.join(SECRET_KINDS)}"
        )
    return value


SecretReference = Annotated[SecretRef, BeforeValidator(_reference_only)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec(HostOptions):
    """How to reach a Hyper-V host."""

    password: Annotated[
        SecretReference | None, Option("where the password is; with auth certificate, that of its key")
    ] = None
    certificate_key: Annotated[
        SecretReference | None,
        Option("where the private key of certificate is, PEM; in the same file by default"),
    ] = None

    def __post_init__(self) -> None:
        if self.read_timeout <= self.operation_timeout:
            raise ValueError("read_timeout must be more than operation_timeout")


@dataclass(frozen=True, slots=True)
class RepositorySpec:
    """Where recovery points are stored."""

    url: Annotated[str, Option("path, or file://, s3:// or sftp:// URL")]
    key: Annotated[SecretReference | None, Option("where the key of an encrypted repository is")] = None
    cache: Annotated[Path | None, Option("folder of the local cache of its index")] = None

"""What fails in or towards a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class RepositoryError(HvpsError):
    """Something failed in or towards a repository."""

    repository: str
    exit_code: ClassVar[ExitCode] = ExitCode.NO_REPOSITORY


@dataclass(eq=False)
class NoRepository(RepositoryError):
    """There is no repository at the URL."""

    template: ClassVar[str] = "no repository at {repository}"
    remedy: ClassVar[str] = "hvps repo init makes one"


@dataclass(eq=False)
class RepositoryExists(RepositoryError):
    """``repo init`` would overwrite a repository or a folder in use."""

    what: str
    template: ClassVar[str] = "cannot make a repository at {repository}: {what}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class NewerFormat(RepositoryError):
    """Written by a newer hvps."""

    found: int
    known: int
    template: ClassVar[str] = "repository {repository} has format {found}; this hvps knows up to {known}"
    remedy: ClassVar[str] = "use a newer hvps"


@dataclass(eq=False)
class NewerObject(RepositoryError):
    """An object has fields of a newer hvps, within a format that this one knows."""

    name: str
    what: str
    template: ClassVar[str] = "{name} in {repository} was written by a newer hvps: {what}"
    remedy: ClassVar[str] = "use the newer hvps"


@dataclass(eq=False)
class StoreError(RepositoryError):
    """The store failed to do what it was asked: rights, network, breach of contract."""

    action: str
    name: str
    reason: str
    template: ClassVar[str] = "{action} {name} in {repository}: {reason}"


@dataclass(eq=False)
class ObjectMissing(StoreError):
    """An object is not in the store."""


@dataclass(eq=False)
class ObjectExists(StoreError):
    """Create-if-absent found the name taken."""


@dataclass(eq=False)
class NoSpace(StoreError):
    """The store is full."""

    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE
    remedy: ClassVar[str] = "free some space; what is committed is safe"


@dataclass(eq=False)
class RepositoryLocked(RepositoryError):
    """Somebody else works on the same VM (or repository) right now."""

    what: str
    holder: str
    template: ClassVar[str] = "{what} in {repository} is held by {holder}"
    exit_code: ClassVar[ExitCode] = ExitCode.LOCKED
    remedy: ClassVar[str] = "wait for it to end"


@dataclass(eq=False)
class LeaseLost(RepositoryLocked):
    """Our own lease was taken over while we worked; nothing further may be written."""

    remedy: ClassVar[str] = "this run stops; the holder goes on"


@dataclass(eq=False)
class WrongKey(RepositoryError):
    """The key opens no slot of the repository, or none was given for a sealed one."""

    reason: str
    template: ClassVar[str] = "cannot unlock {repository}: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.WRONG_KEY


@dataclass(eq=False)
class KeyNeeded(RepositoryError):
    """The last key slot must stay, or there is no such slot, or there are no keys at all."""

    reason: str
    template: ClassVar[str] = "keys of {repository}: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class Damaged(RepositoryError):
    """Stored bytes are not what was written."""

    name: str
    what: str
    template: ClassVar[str] = "{name} in {repository} is damaged: {what}"
    exit_code: ClassVar[ExitCode] = ExitCode.DAMAGE
    remedy: ClassVar[str] = "hvps verify names every point this touches"

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

    remedy: ClassVar[str] = "hvps repo init makes one"

    def describe(self) -> str:
        return f"no repository at {self.repository}"


@dataclass(eq=False)
class RepositoryExists(RepositoryError):
    """``repo init`` would overwrite a repository or a folder in use."""

    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"cannot make a repository at {self.repository}: {self.what}"


@dataclass(eq=False)
class NewerFormat(RepositoryError):
    """Written by a newer hvps."""

    found: int
    known: int
    remedy: ClassVar[str] = "use a newer hvps"

    def describe(self) -> str:
        return f"repository {self.repository} has format {self.found}; this hvps knows up to {self.known}"


@dataclass(eq=False)
class NewerObject(RepositoryError):
    """An object has fields of a newer hvps, within a format that this one knows."""

    name: str
    what: str
    remedy: ClassVar[str] = "use the newer hvps"

    def describe(self) -> str:
        return f"{self.name} in {self.repository} was written by a newer hvps: {self.what}"


@dataclass(eq=False)
class StoreError(RepositoryError):
    """The store failed to do what it was asked: rights, network, breach of contract."""

    action: str
    name: str
    reason: str

    def describe(self) -> str:
        return f"{self.action} {self.name} in {self.repository}: {self.reason}"


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
    exit_code: ClassVar[ExitCode] = ExitCode.LOCKED
    remedy: ClassVar[str] = "wait for it to end"

    def describe(self) -> str:
        return f"{self.what} in {self.repository} is held by {self.holder}"


@dataclass(eq=False)
class LeaseLost(RepositoryLocked):
    """Our own lease was taken over while we worked; nothing further may be written."""

    remedy: ClassVar[str] = "this run stops; the holder goes on"


@dataclass(eq=False)
class WrongKey(RepositoryError):
    """The key opens no slot of the repository, or none was given for a sealed one."""

    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.WRONG_KEY

    def describe(self) -> str:
        return f"cannot unlock {self.repository}: {self.reason}"


@dataclass(eq=False)
class KeyNeeded(RepositoryError):
    """The last key slot must stay, or there is no such slot, or there are no keys at all."""

    reason: str
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    def describe(self) -> str:
        return f"keys of {self.repository}: {self.reason}"


@dataclass(eq=False)
class Damaged(RepositoryError):
    """Stored bytes are not what was written."""

    name: str
    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.DAMAGE
    remedy: ClassVar[str] = "hvps verify names every point this touches"

    def describe(self) -> str:
        return f"{self.name} in {self.repository} is damaged: {self.what}"

"""Errors of repositories and of the stores they are in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError


@dataclass(eq=False)
class RepositoryError(HvpsError):
    """Something failed in a repository or on the way to it."""

    repository: str
    exit_code: ClassVar[ExitCode] = ExitCode.NO_REPOSITORY


@dataclass(eq=False)
class NoRepository(RepositoryError):
    """There is no repository at the URL.

    Attributes:
        what: what is there instead; empty if unknown.
    """

    what: str = ""
    template: ClassVar[str] = "no repository at {repository}{instead}"
    remedy: ClassVar[str] = (
        "check the URL and that its storage is mounted, or create one with `hvps repo init`"
    )

    def _values(self) -> dict[str, object]:
        return {**super()._values(), "instead": f": {self.what}" if self.what else ""}


@dataclass(eq=False)
class RepositoryExists(RepositoryError):
    """There already is a repository, or the directory has other files."""

    what: str
    template: ClassVar[str] = "cannot create a repository at {repository}: {what}"
    remedy: ClassVar[str] = "use another URL"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class NewerFormat(RepositoryError):
    """A newer hvps created the repository."""

    found: int
    known: int
    template: ClassVar[str] = (
        "repository {repository} has format {found}, but this hvps supports formats up to {known}"
    )
    remedy: ClassVar[str] = "use a newer hvps"


@dataclass(eq=False)
class NewerObject(RepositoryError):
    """The object has fields of a newer hvps, in a format that this one supports."""

    name: str
    what: str
    template: ClassVar[str] = "{name} in {repository} was written by a newer hvps: {what}"
    remedy: ClassVar[str] = "use a newer hvps"


@dataclass(eq=False)
class StoreError(RepositoryError):
    """The store could not do what it was asked: rights, network, or a breach of its contract."""

    action: str
    name: str
    reason: str
    template: ClassVar[str] = "cannot {action} {name} in {repository}: {reason}"


@dataclass(eq=False)
class ObjectMissing(StoreError):
    """The object is not in the store."""


@dataclass(eq=False)
class ObjectExists(StoreError):
    """An object of this name already exists."""


@dataclass(eq=False)
class NoSpace(StoreError):
    """The store is full."""

    remedy: ClassVar[str] = "free some space; existing points are safe"
    exit_code: ClassVar[ExitCode] = ExitCode.NO_SPACE


@dataclass(eq=False)
class StoreLimit(StoreError):
    """This machine does not allow another open file. The store may be fine."""

    advice: str
    remedy: ClassVar[str] = "{advice}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class RepositoryLocked(RepositoryError):
    """Another hvps works on the same VM or repository."""

    what: str
    holder: str
    template: ClassVar[str] = "{what} in {repository} is locked by {holder}"
    remedy: ClassVar[str] = "wait until it has finished"
    exit_code: ClassVar[ExitCode] = ExitCode.LOCKED


@dataclass(eq=False)
class LeaseLost(RepositoryLocked):
    """Another hvps took over the lease of this run, which must not write any more."""

    template: ClassVar[str] = "the lease on {what} in {repository} was lost and is now held by {holder}"
    remedy: ClassVar[str] = "this run stops"


@dataclass(eq=False)
class WrongKey(RepositoryError):
    """The key does not open the repository, or an encrypted repository needs one."""

    reason: str
    template: ClassVar[str] = "cannot unlock {repository}: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.WRONG_KEY


@dataclass(eq=False)
class NoDataKey(HvpsError):
    """A key for prunes was used for something that reads or writes data."""

    template: ClassVar[str] = "the key that was given can prune and collect, but not read or write data"
    remedy: ClassVar[str] = "use another key of the repository"
    exit_code: ClassVar[ExitCode] = ExitCode.WRONG_KEY


@dataclass(eq=False)
class KeyNeeded(RepositoryError):
    """The change would remove the last key slot, or names one that does not exist, or there are no keys."""

    reason: str
    template: ClassVar[str] = "cannot change the keys of {repository}: {reason}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class Damaged(RepositoryError):
    """Stored bytes are not what was written."""

    name: str
    what: str
    template: ClassVar[str] = "{name} in {repository} is damaged: {what}"
    remedy: ClassVar[str] = "run `hvps verify` to see which points are affected"
    exit_code: ClassVar[ExitCode] = ExitCode.DAMAGE


@dataclass(eq=False)
class UpgradeRefused(RepositoryError):
    """The settings cannot be replaced where the repository is."""

    what: str
    template: ClassVar[str] = "cannot upgrade {repository}: {what}"
    remedy: ClassVar[str] = (
        "create a new repository with `hvps repo init` and copy the points there with `hvps copy`"
    )
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


@dataclass(eq=False)
class CollectRefused(RepositoryError):
    """Nothing may be deleted from the repository as it is.

    Attributes:
        what: why.
        instead: what to do.
    """

    what: str
    instead: str
    template: ClassVar[str] = "cannot do this in {repository}: {what}"
    remedy: ClassVar[str] = "{instead}"
    exit_code: ClassVar[ExitCode] = ExitCode.POLICY


@dataclass(eq=False)
class PointGone(RepositoryError):
    """A point that was in use was pruned, or its run was declared dead."""

    point: str
    what: str
    template: ClassVar[str] = "point {point} in {repository} is gone: {what}"
    remedy: ClassVar[str] = "run it again; `hvps list` shows the points that are left"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID


@dataclass(eq=False)
class PointsNeeded(RepositoryError):
    """Points cannot be forgotten, because they are protected or something needs them.

    Attributes:
        points: each of them, with why.
        instead: what to do.
    """

    points: tuple[str, ...]
    instead: str
    template: ClassVar[str] = "nothing was forgotten in {repository}: {points}"
    remedy: ClassVar[str] = "{instead}"
    exit_code: ClassVar[ExitCode] = ExitCode.POLICY


@dataclass(eq=False)
class DiskDamaged(Damaged):
    """Bytes of a disk cannot be restored: a chunk, or a part of the tree that names chunks."""

    slot: str
    first: int
    last: int
    template: ClassVar[str] = (
        "bytes {first} to {last} of disk {slot} cannot be restored: {name} in {repository} is damaged: {what}"
    )
    remedy: ClassVar[str] = "use another point, or restore the rest with --skip-damaged"


@dataclass(eq=False)
class PointLost(Damaged):
    """The point that the selector means may be one whose manifest is damaged or missing."""

    selector: str
    template: ClassVar[str] = (
        "{selector} in {repository} may be the point of {name}, which cannot be read: {what}"
    )
    remedy: ClassVar[str] = "put that object back, or use an older point by its id (see `hvps list`)"

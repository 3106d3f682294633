"""What shows a writer that it may go on: its run object, the fences, and the points that it counts from."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from hvpsbridge.errors import LeaseLost, PointGone
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.collect.fences import Fences
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.runs import run_in


def check_run(objects: Objects, fences: Fences, run: Lease) -> None:
    """Check that a run does not count as dead.

    Raises:
        LeaseLost: it does.
    """
    run.check()
    # The fence is looked for last: a collect removes the run object after it.
    if objects.format > 1 and fences.exists(run_in(run.prefix)):
        raise LeaseLost(objects.store.url, run.what, "no one: a collect declared it dead")


class RunGuard:
    """The run of one writer.

    Args:
        objects: the repository.
        catalog: its points.
        run: the run object.

    Attributes:
        run: the run object.
        name: the run object for manifests and index objects; None in format 1.
    """

    def __init__(self, objects: Objects, catalog: Catalog, run: Lease) -> None:
        self._objects = objects
        self._catalog = catalog
        self._lease = run
        self.run = run_in(run.prefix)
        self.name = self.run if objects.format > 1 else None

    def check(self) -> None:
        """Check that the run does not count as dead.

        Raises:
            LeaseLost: it does.
        """
        check_run(self._objects, self._catalog.fences, self._lease)

    def check_bases(self, bases: Iterable[UUID]) -> None:
        """Check that points still exist.

        While a base exists, a collect keeps what it needs; and a base that is pruned after this is kept until
        the run has ended.

        Raises:
            PointGone: one was pruned, or is of a run that was just declared dead.
        """
        wanted = set(bases)
        if not wanted or self.name is None:
            return
        gone = wanted - self._catalog.safe_bases()
        if gone:
            what = "it was pruned while a backup counted from it"
            raise PointGone(self._objects.store.url, str(min(gone)), what)

    def release(self) -> None:
        """End the run, visibly to others."""
        self._lease.release()

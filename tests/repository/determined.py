"""Makes everything that a repository writes reproducible, so that a random test can be repeated by its seed.

hvps itself has no option for this: its random numbers come from the kernel. In a block, and for one thread,
this replaces the kernel's random numbers, the clock, the holder of leases and the order of the pack writer's
threads.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta, tzinfo
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from hvpsbridge.formats.lease import LeaseHolder
from hvpsbridge.repository import (
    chunk_queue,
    copying,
    key_export,
    key_slots,
    keys,
    lease,
    opening,
    point_states,
    runs,
    stored_packs,
)
from tests.repository.conftest import START

TIMED: tuple[ModuleType, ...] = (
    copying,
    key_export,
    key_slots,
    keys,
    lease,
    opening,
    point_states,
    stored_packs,
)


class Inline:
    """An executor whose work is done when ``submit`` returns, so frames are in the order they were put."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as err:  # noqa: BLE001 (an executor hands on whatever it was)
            future.set_exception(err)
        return future

    def shutdown(self, **_: object) -> None:
        pass


def holder(run_id: UUID) -> LeaseHolder:
    """The same holder on every machine."""
    return LeaseHolder(
        run_id=run_id,
        machine="machine",
        user="user",
        process_id=1,
        boot_id=None,
        pid_namespace=None,
        process_started=None,
    )


@contextlib.contextmanager
def determined(seed: int) -> Iterator[None]:
    """In the block, the same calls write the same bytes. For stores in memory and one thread."""
    dice = random.Random(seed)
    ticks = iter(range(1 << 30))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain datetime
            return START + timedelta(seconds=next(ticks))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", dice.randbytes)
        patch.setattr(random, "_urandom", dice.randbytes)  # where ``secrets`` gets its bytes
        for module in TIMED:
            patch.setattr(module, "datetime", Clock)
        patch.setattr(runs, "current_holder", holder)
        patch.setattr(chunk_queue, "ThreadPoolExecutor", Inline)
        yield

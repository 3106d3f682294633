"""Runs threads one at a time, stepped at every operation on a store by a seeded scheduler.

Each thread has a store of its own, all with the same objects. Before every operation it waits for its turn.
In between, the scheduler kills processes (they do nothing more), suspends them (they go on later, perhaps
long after they were declared dead), and has the power fail: everything dies, and of what was published after
the last barrier any part may be gone.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Self
from uuid import UUID

import pytest

from hvpsbridge.formats.lease import LeaseHolder
from hvpsbridge.repository import chunk_queue, frames, lease
from hvpsbridge.repository.stores.base import MAX_OBJECT_BYTES, ObjectInfo
from tests.repository.determined import Inline
from tests.repository.memory_store import MemorySink, MemoryStore

# How long a thread may take from one operation to the next, before it counts as stuck.
TURN_SECONDS = 60.0


class Killed(BaseException):
    """The process of a thread was killed."""


class Pool(Inline):
    """An executor without threads, so that a process has one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Disk:
    """Objects that all processes see, and those of them that would survive a power loss."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.safe: dict[str, bytes] = {}

    def flush(self, folders: set[str]) -> None:
        """Make everything in these folders durable."""
        for name in self.objects.keys() | self.safe.keys():
            if name.partition("/")[0] in folders:
                self._settle(name, self.objects.get(name))

    def lose_power(self, dice: random.Random) -> None:
        """Lose any part of what is not durable: disks write in any order."""
        for name in sorted(self.objects.keys() | self.safe.keys()):
            state = self.objects if dice.random() < 0.5 else self.safe
            self._settle(name, state.get(name))

    def _settle(self, name: str, data: bytes | None) -> None:
        for state in (self.objects, self.safe):
            if data is None:
                state.pop(name, None)
            else:
                state[name] = data


class ProcessStore(MemoryStore):
    """The store as one process uses it. A barrier flushes the folders that it changed or listed.

    Args:
        disk: what is stored.
        step: called before each operation.
    """

    def __init__(self, disk: Disk, step: Callable[[str], None]) -> None:
        super().__init__()
        self.objects = disk.objects
        self._disk = disk
        self._step = step
        self._touched: set[str] = set()

    def _does(self, operation: str, name: str) -> None:
        self._step(f"{operation} {name}")
        if operation in ("put", "delete", "list"):
            self._touched.add(name.partition("/")[0])

    def put(self, name: str, data: bytes) -> None:
        self._does("put", name)
        super().put(name, data)

    def sink(self, name: str) -> MemorySink:
        self._does("open", name)
        return super().sink(name)

    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        self._does("get", name)
        return super().get(name, max_bytes)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._does("list", prefix)
        return super().list(prefix)

    def delete(self, name: str) -> None:
        self._does("delete", name)
        super().delete(name)

    def commit_barrier(self) -> None:
        self._does("barrier", "")
        self._disk.flush(self._touched)
        self._touched = set()


class Process:
    """A thread that takes turns.

    Args:
        name: for messages.
        work: what it does, with itself.

    Attributes:
        runs: of its leases and run objects.
        error: what ended it, unless it was killed.
        was_declared_dead: whether others took it for dead while it could still go on.
    """

    def __init__(self, name: str, work: Callable[[Process], None]) -> None:
        self.name = name
        self.runs: list[UUID] = []
        self.error: BaseException | None = None
        self.was_declared_dead = False
        self.suspended = False
        self.killed = False
        self.done = False
        self.last = "begins"
        self.steps = 0
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[Process], None]) -> None:
        self._go.acquire()
        try:
            if not self.killed:
                work(self)
        except Killed:
            pass
        except BaseException as err:  # noqa: BLE001 (the scheduler decides what it means)
            self.error = err
        self.done = True
        self._back.release()

    def step(self, what: str) -> None:
        """Wait for the next turn."""
        assert threading.current_thread() is self._thread
        if not self.killed:
            self.last = what
            self.steps += 1
            self._back.release()
            self._go.acquire()
        if self.killed:
            raise Killed

    def turn(self) -> None:
        """Let it go on to its next operation."""
        self._go.release()
        if not self._back.acquire(timeout=TURN_SECONDS):
            raise TimeoutError(f"{self.name} is stuck after {self.last!r}")

    def kill(self) -> None:
        """End it. What it would have done in handlers of errors does not happen either."""
        self.killed = True
        while not self.done:
            self.turn()


class Scheduler:
    """Processes with the same objects, and what may happen to them.

    Args:
        dice: decides about everything.
        moments: operations (their beginnings) before which writers are suspended often; nothing else happens
            to them or others then.
    """

    def __init__(self, dice: random.Random, *, moments: tuple[str, ...] = ()) -> None:
        self.dice = dice
        self.disk = Disk()
        self.processes: list[Process] = []
        self.log: list[str] = []
        self.dead_runs: set[UUID] = set()
        self._quiet = False
        self._moments = moments

    def start(self, name: str, work: Callable[[Process], None]) -> Process:
        """A new process, which waits for its first turn."""
        process = Process(name, work)
        self.processes.append(process)
        return process

    def store(self, process: Process | None = None) -> ProcessStore:
        """The store for a process, or for the test, which takes no turns."""
        return ProcessStore(self.disk, (lambda _: None) if process is None else process.step)

    def run(self) -> None:
        """Let processes take turns until only suspended ones are left."""
        while awake := [each for each in self.processes if not each.done and not each.suspended]:
            process = self.dice.choice(awake)
            for _ in range(min(int(self.dice.expovariate(0.1)) + 1, 60)):
                process.turn()
                if process.done or self._is_at_moment(process):
                    break
            if not self._quiet:
                self._interfere(process)

    def finish(self) -> None:
        """Wake all that are suspended, and run everything to its end."""
        self._quiet = True
        for process in self.processes:
            process.suspended = False
        self.run()

    def _is_at_moment(self, process: Process) -> bool:
        return bool(self._moments) and process.name[0] == "w" and process.last.startswith(self._moments)

    def _interfere(self, process: Process) -> None:
        chance = self.dice.random()
        if self._moments:
            if not process.done and self._is_at_moment(process) and chance < 0.3:
                self._suspend(process)
            elif chance > 0.7:
                self._wake_or_bury()
        elif chance < 0.004:
            self._say("the power fails")
            for each in self.processes:
                self._kill(each)
                self.declare_dead(each)
            self.disk.lose_power(self.dice)
        elif chance < 0.014:
            self._kill(process)
        elif chance < 0.044 and not process.done:
            self._suspend(process)
        elif chance < 0.15:
            self._wake_or_bury()

    def _suspend(self, process: Process) -> None:
        self._say(f"{process.name} is suspended before {process.last}")
        process.suspended = True

    def _wake_or_bury(self) -> None:
        """Let others take a process for dead, or let one that is suspended go on."""
        gone = [each for each in self.processes if each.killed or each.suspended]
        asleep = [each for each in self.processes if each.suspended and not each.done]
        if gone and self.dice.random() < 0.7:
            self.declare_dead(self.dice.choice(gone))
        elif asleep:
            woken = self.dice.choice(asleep)
            self._say(f"{woken.name} goes on")
            woken.suspended = False

    def _kill(self, process: Process) -> None:
        if not process.done:
            self._say(f"{process.name} is killed before {process.last}")
            process.kill()

    def declare_dead(self, process: Process) -> None:
        """Let others take a process for dead from now on."""
        if not self.dead_runs.issuperset(process.runs):
            self._say(f"{process.name} counts as dead")
        process.was_declared_dead = True
        self.dead_runs.update(process.runs)

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.kill()

    def _say(self, what: str) -> None:
        self.log.append(what)

    @contextlib.contextmanager
    def in_charge(self) -> Iterator[None]:
        """In the block, this decides which runs are dead, and processes have one thread each."""

        def is_gone(objects: object, prefix: str, holder: LeaseHolder) -> bool:
            return holder.run_id in self.dead_runs

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lease, "is_gone", is_gone)
            patch.setattr(lease.Lease, "_renew_on", lambda _: None)
            patch.setattr(chunk_queue, "ThreadPoolExecutor", Pool)
            patch.setattr(frames, "ThreadPoolExecutor", Pool)
            try:
                yield
            finally:
                self.close()

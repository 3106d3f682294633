"""Requests and replies of a connection whose client has chosen an export."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from queue import SimpleQueue

from hvpsbridge.errors import HvpsError
from hvpsbridge.nbd import protocol
from hvpsbridge.nbd.exports import Export, WritableDisk
from hvpsbridge.nbd.handshake import Chosen, Refused
from hvpsbridge.nbd.protocol import Command, CommandFlag, Error, Request
from hvpsbridge.nbd.room import Room
from hvpsbridge.nbd.stream import Stream

logger = logging.getLogger(__name__)

# Of one connection: requests under way, and bytes of their data.
MAX_REQUESTS = 32
MAX_UNDER_WAY_BYTES = protocol.MAX_BLOCK_BYTES
# Runs in one answer of block status; the client asks again from where it ends.
MAX_RUNS = 4096
_DATA_COMMANDS = frozenset({Command.READ, Command.WRITE})


class RequestFailed(Exception):
    """A request that cannot be done, and the number that says why."""

    def __init__(self, error: Error, text: str, offset: int | None = None) -> None:
        super().__init__(text)
        self.error = error
        self.offset = offset


class Transmission:
    """One connection after the handshake.

    Args:
        stream: of the connection.
        chosen: by the client.
        pool: does the requests.
        room: for what is under way on all connections. A request holds its part until its answer is sent, and
            a write from before its data comes.
    """

    def __init__(self, stream: Stream, chosen: Chosen, pool: Executor, room: Room) -> None:
        self._stream = stream
        self._export: Export = chosen.export
        self._structured = chosen.structured
        self._allocation = chosen.allocation
        self._pool = pool
        self._room = room
        self._own_room = Room(MAX_REQUESTS, MAX_UNDER_WAY_BYTES)
        # Sent by a thread of the connection: a client that does not read keeps no thread of the pool.
        self._answers: SimpleQueue[tuple[Sequence[bytes], int] | None] = SimpleQueue()

    def run(self) -> None:
        """Answer requests until the client ends.

        Raises:
            EOFError: the client went without a word.
            Refused: it does not keep the protocol.
            OSError: the connection is lost.
        """
        sending = threading.Thread(target=self._send_answers, name="nbd-send", daemon=True)
        sending.start()
        try:
            while True:
                head = self._stream.receive(protocol.REQUEST.size, idle=True)
                try:
                    request = Request.unpack(head)
                except ValueError as err:
                    raise Refused(str(err)) from err
                if request.command == Command.DISCONNECT:
                    return
                self._take(request)
        finally:
            self._own_room.wait_empty()
            self._answers.put(None)
            sending.join()

    def _take(self, request: Request) -> None:
        held = request.length if request.command in _DATA_COMMANDS else 0
        is_large = held > protocol.MAX_BLOCK_BYTES
        if is_large and request.command == Command.WRITE:
            raise Refused(f"a write of {request.length} bytes")
        if is_large:
            held = 0
        self._own_room.enter(held)
        self._room.enter(held)
        try:
            if is_large:
                large = RequestFailed(Error.OVERFLOW, "more than 32 MiB in one request")
                self._answers.put((self._failed(request, large), held))
                return
            data = self._stream.receive(request.length) if request.command == Command.WRITE else b""
            self._pool.submit(self._do, request, data, held)
        except RuntimeError:
            self._done(held)  # the server is being stopped
            raise Refused("the server stops") from None
        except BaseException:
            self._done(held)
            raise

    def _done(self, held: int) -> None:
        self._room.leave(held)
        self._own_room.leave(held)

    def _send_answers(self) -> None:
        while (answer := self._answers.get()) is not None:
            pieces, held = answer
            try:
                self._stream.send(*pieces)
            except OSError as err:
                logger.debug("%s: no answer could be sent: %s", self._export.name, err)
                self._stream.close()
            finally:
                self._done(held)

    def _do(self, request: Request, data: bytes, held: int) -> None:
        try:
            answer = self._answer(request, data)
        except RequestFailed as err:
            answer = self._failed(request, err)
        except HvpsError as err:
            answer = self._failed(request, self._unreadable(request.offset, request.length, err))
        except OSError as err:
            logger.error("%s: the overlay cannot be used: %s", self._export.name, err)
            answer = self._failed(request, RequestFailed(Error.IO, "the overlay cannot be used"))
        except Exception:
            logger.exception("%s: a request failed", self._export.name)
            answer = self._failed(request, RequestFailed(Error.IO, "an internal error"))
        self._answers.put((answer, held))

    def _unreadable(self, offset: int, length: int, err: HvpsError) -> RequestFailed:
        logger.error(
            "%s: bytes %d to %d cannot be read: %s", self._export.name, offset, offset + length - 1, err
        )
        return RequestFailed(Error.IO, "cannot be read", offset)

    def _failed(self, request: Request, err: RequestFailed) -> Sequence[bytes]:
        if self._structured and request.command in (Command.READ, Command.BLOCK_STATUS):
            return (protocol.error_part(request.cookie, err.error, str(err), err.offset),)
        return (protocol.simple_reply(request.cookie, err.error),)

    # -- commands ---------------------------------------------------------------------------------------

    def _answer(self, request: Request, data: bytes) -> Sequence[bytes]:
        """Pieces of the answer."""
        if not 0 <= request.offset <= request.offset + request.length <= self._export.disk.size_bytes:
            error = Error.NO_SPACE if request.command == Command.WRITE else Error.INVALID
            raise RequestFailed(error, "beyond the end of the disk")
        if request.command == Command.READ:
            return self._read(request)
        if request.command == Command.BLOCK_STATUS:
            return (self._status(request),)
        if request.command != Command.CACHE:
            self._change(request, data)
        return (protocol.simple_reply(request.cookie),)

    def _read(self, request: Request) -> Sequence[bytes]:
        disk = self._export.disk
        if not request.length:
            raise RequestFailed(Error.INVALID, "a read of 0 bytes")
        if not self._structured:
            return (
                protocol.simple_reply(request.cookie),
                disk.pread(request.offset, request.length),
            )
        if request.flags & CommandFlag.DF:
            head = protocol.data_head(request.cookie, request.offset, request.length, done=True)
            return (head, disk.pread(request.offset, request.length))
        # All of it is read before any is sent: after an error nothing more may come.
        return self._parts(request)

    def _parts(self, request: Request) -> list[bytes]:
        parts: list[bytes] = []
        offset, end = request.offset, request.offset + request.length
        for length, data in self._export.disk.status(offset, request.length):
            done = offset + length == end
            if data:
                try:
                    content = self._export.disk.pread(offset, length)
                except HvpsError as err:
                    raise self._unreadable(offset, length, err) from err
                parts += (protocol.data_head(request.cookie, offset, length, done=done), content)
            else:
                parts.append(protocol.hole_part(request.cookie, offset, length, done=done))
            offset += length
        return parts

    def _status(self, request: Request) -> bytes:
        if not self._structured or not self._allocation or not request.length:
            raise RequestFailed(Error.INVALID, "no context was set")
        most = 1 if request.flags & CommandFlag.REQ_ONE else MAX_RUNS
        runs: Iterator[tuple[int, bool]] = iter(self._export.disk.status(request.offset, request.length))
        return protocol.status_part(request.cookie, itertools.islice(runs, most))

    def _change(self, request: Request, data: bytes) -> None:
        disk = self._export.writable
        if request.command not in (Command.WRITE, Command.FLUSH, Command.TRIM, Command.WRITE_ZEROES):
            raise RequestFailed(Error.INVALID, "an unknown command")
        if disk is None:
            raise RequestFailed(Error.PERM, "the export is read-only")
        self._write(disk, request, data)
        if request.flags & CommandFlag.FUA or request.command == Command.FLUSH:
            disk.flush()

    def _write(self, disk: WritableDisk, request: Request, data: bytes) -> None:
        if request.command == Command.WRITE:
            disk.pwrite(request.offset, data)
        elif request.command in (Command.TRIM, Command.WRITE_ZEROES):
            disk.zero(request.offset, request.length)

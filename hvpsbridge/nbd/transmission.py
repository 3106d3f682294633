"""Requests and replies of a connection whose client has chosen an export."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Executor

from hvpsbridge.errors import HvpsError
from hvpsbridge.nbd import protocol
from hvpsbridge.nbd.exports import Export, WritableDisk
from hvpsbridge.nbd.handshake import Chosen, Refused
from hvpsbridge.nbd.protocol import Command, CommandFlag, Error, Request
from hvpsbridge.nbd.stream import Stream

logger = logging.getLogger(__name__)

# Of one connection: requests under way, and bytes of their data.
MAX_REQUESTS = 32
MAX_UNDER_WAY_BYTES = 2 * protocol.MAX_BLOCK_BYTES
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
    """

    def __init__(self, stream: Stream, chosen: Chosen, pool: Executor) -> None:
        self._stream = stream
        self._export: Export = chosen.export
        self._structured = chosen.structured
        self._allocation = chosen.allocation
        self._pool = pool
        self._room = threading.Condition()
        self._requests = self._bytes = 0

    def run(self) -> None:
        """Answer requests until the client ends.

        Raises:
            EOFError: the client went without a word.
            Refused: it does not keep the protocol.
            OSError: the connection is lost.
        """
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
            with self._room:
                self._room.wait_for(lambda: not self._requests)

    def _take(self, request: Request) -> None:
        data = b""
        held = request.length if request.command in _DATA_COMMANDS else 0
        if request.command == Command.WRITE:
            if request.length > protocol.MAX_BLOCK_BYTES:
                raise Refused(f"a write of {request.length} bytes")
            data = self._stream.receive(request.length)
        elif held > protocol.MAX_BLOCK_BYTES:
            self._fail(request, RequestFailed(Error.OVERFLOW, "more than 32 MiB in one request"))
            return
        with self._room:
            self._room.wait_for(
                lambda: self._requests < MAX_REQUESTS and self._bytes + held <= MAX_UNDER_WAY_BYTES
            )
            self._requests += 1
            self._bytes += held
        try:
            self._pool.submit(self._do, request, data, held)
        except RuntimeError:
            self._done(held)  # the server is being stopped
            raise Refused("the server stops") from None

    def _done(self, held: int) -> None:
        with self._room:
            self._requests -= 1
            self._bytes -= held
            self._room.notify_all()

    def _do(self, request: Request, data: bytes, held: int) -> None:
        try:
            self._answer(request, data)
        except RequestFailed as err:
            self._try_fail(request, err)
        except HvpsError as err:
            logger.error(
                "%s: bytes %d to %d cannot be read: %s",
                self._export.name,
                request.offset,
                request.offset + request.length - 1,
                err,
            )
            self._try_fail(request, RequestFailed(Error.IO, "cannot be read", request.offset))
        except (ConnectionError, TimeoutError) as err:
            logger.debug("%s: no answer could be sent: %s", self._export.name, err)
            self._stream.close()
        except OSError as err:
            logger.error("%s: the overlay cannot be used: %s", self._export.name, err)
            self._try_fail(request, RequestFailed(Error.IO, "the overlay cannot be used"))
        except Exception:
            logger.exception("%s: a request failed", self._export.name)
            self._try_fail(request, RequestFailed(Error.IO, "an internal error"))
        finally:
            self._done(held)

    def _try_fail(self, request: Request, err: RequestFailed) -> None:
        try:
            self._fail(request, err)
        except OSError as lost:
            logger.debug("%s: no answer could be sent: %s", self._export.name, lost)
            self._stream.close()

    def _fail(self, request: Request, err: RequestFailed) -> None:
        if self._structured and request.command in (Command.READ, Command.BLOCK_STATUS):
            self._stream.send(protocol.error_part(request.cookie, err.error, str(err), err.offset))
        else:
            self._stream.send(protocol.simple_reply(request.cookie, err.error))

    # -- commands ---------------------------------------------------------------------------------------

    def _answer(self, request: Request, data: bytes) -> None:
        if not 0 <= request.offset <= request.offset + request.length <= self._export.disk.size_bytes:
            error = Error.NO_SPACE if request.command == Command.WRITE else Error.INVALID
            raise RequestFailed(error, "beyond the end of the disk")
        if request.command == Command.READ:
            self._read(request)
        elif request.command == Command.BLOCK_STATUS:
            self._status(request)
        elif request.command == Command.CACHE:
            self._stream.send(protocol.simple_reply(request.cookie))
        else:
            self._change(request, data)
            self._stream.send(protocol.simple_reply(request.cookie))

    def _read(self, request: Request) -> None:
        disk = self._export.disk
        if not request.length:
            raise RequestFailed(Error.INVALID, "a read of 0 bytes")
        if not self._structured:
            data = disk.pread(request.offset, request.length)
            self._stream.send(protocol.simple_reply(request.cookie), data)
            return
        if request.flags & CommandFlag.DF:
            data = disk.pread(request.offset, request.length)
            self._stream.send(protocol.data_part(request.cookie, request.offset, data, done=True))
            return
        # All of it is read before any is sent: after an error nothing more may come.
        self._stream.send(*self._parts(request))

    def _parts(self, request: Request) -> list[bytes]:
        parts = []
        offset, end = request.offset, request.offset + request.length
        for length, data in self._export.disk.status(offset, request.length):
            done = offset + length == end
            if data:
                try:
                    content = self._export.disk.pread(offset, length)
                except HvpsError as err:
                    logger.error(
                        "%s: bytes %d to %d cannot be read: %s",
                        self._export.name,
                        offset,
                        offset + length - 1,
                        err,
                    )
                    raise RequestFailed(Error.IO, "cannot be read", offset) from err
                parts.append(protocol.data_part(request.cookie, offset, content, done=done))
            else:
                parts.append(protocol.hole_part(request.cookie, offset, length, done=done))
            offset += length
        return parts

    def _status(self, request: Request) -> None:
        if not self._structured or not self._allocation or not request.length:
            raise RequestFailed(Error.INVALID, "no context was set")
        most = 1 if request.flags & CommandFlag.REQ_ONE else MAX_RUNS
        runs: Iterator[tuple[int, bool]] = iter(self._export.disk.status(request.offset, request.length))
        self._stream.send(protocol.status_part(request.cookie, itertools.islice(runs, most)))

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

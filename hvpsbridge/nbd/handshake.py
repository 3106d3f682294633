"""The beginning of a connection: options until the client has chosen an export."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from hvpsbridge.nbd import protocol
from hvpsbridge.nbd.exports import Export
from hvpsbridge.nbd.protocol import HandshakeFlag, Info, OptionKind, Reply
from hvpsbridge.nbd.stream import Stream

# Options that a client may send before it chooses; each costs an answer.
MAX_OPTIONS = 64
_SMALLEST_BLOCK = 1


class Refused(Exception):
    """The connection ends: the client asked for nothing that is here, or does not keep the protocol."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a client chose.

    Attributes:
        structured: whether replies are structured.
        allocation: whether the client asks for block status.
    """

    export: Export
    structured: bool
    allocation: bool


class Handshake:
    """The options of one connection.

    Args:
        stream: of the connection.
        exports: by name.
        tls: to be used before an export is chosen; None without TLS.
        listed: whether names may be listed.
    """

    def __init__(
        self, stream: Stream, exports: Mapping[str, Export], *, tls: ssl.SSLContext | None, listed: bool
    ) -> None:
        self._stream = stream
        self._exports = exports
        self._tls = tls
        self._listed = listed
        self._secure = tls is None
        self._structured = False
        # Name of the export for which the context was set.
        self._allocation_of: str | None = None

    def run(self) -> Chosen | None:
        """What the client chose; None if it only asked.

        Raises:
            Refused: the connection must end.
            OSError: it is lost.
        """
        self._stream.send(protocol.greeting())
        flags = int.from_bytes(self._stream.receive(4))
        if not flags & HandshakeFlag.FIXED_NEWSTYLE or flags & ~3:
            raise Refused("the client does not speak fixed newstyle")
        zeroes = not flags & HandshakeFlag.NO_ZEROES
        for _ in range(MAX_OPTIONS):
            head = self._stream.receive(protocol.OPTION_HEAD.size)
            magic, option, length = protocol.OPTION_HEAD.unpack(head)
            if magic != protocol.OPTION_MAGIC:
                raise Refused("not an NBD option")
            if length > protocol.MAX_OPTION_BYTES:
                raise Refused(f"an option of {length} bytes")
            data = self._stream.receive(length)
            if option == OptionKind.ABORT:
                self._reply(option, Reply.ACK)
                return None
            if option == OptionKind.EXPORT_NAME:
                return self._old_choice(data, zeroes=zeroes)
            chosen = self._answer(option, data)
            if chosen is not None:
                return chosen
        raise Refused(f"more than {MAX_OPTIONS} options")

    def _answer(self, option: int, data: bytes) -> Chosen | None:
        if option == OptionKind.STARTTLS:
            self._start_tls(data)
        elif not self._secure:
            self._reply(option, Reply.ERR_TLS_REQD, b"this server needs TLS with a client certificate")
        elif option == OptionKind.LIST:
            self._list(data)
        elif option == OptionKind.STRUCTURED_REPLY:
            self._structured = not data
            self._reply(option, Reply.ACK if self._structured else Reply.ERR_INVALID)
        elif option in (OptionKind.LIST_META_CONTEXT, OptionKind.SET_META_CONTEXT):
            self._contexts(option, data)
        elif option in (OptionKind.INFO, OptionKind.GO):
            return self._go(option, data)
        else:
            self._reply(option, Reply.ERR_UNSUP)
        return None

    def _start_tls(self, data: bytes) -> None:
        if self._tls is None or data or self._secure:
            self._reply(OptionKind.STARTTLS, Reply.ERR_INVALID if data else Reply.ERR_UNSUP)
            return
        self._reply(OptionKind.STARTTLS, Reply.ACK)
        self._stream.start_tls(self._tls)
        self._secure = True
        # Nothing that was agreed on before counts (NBD protocol, NBD_OPT_STARTTLS).
        self._structured, self._allocation_of = False, None

    def _list(self, data: bytes) -> None:
        if data:
            self._reply(OptionKind.LIST, Reply.ERR_INVALID)
        elif not self._listed:
            self._reply(OptionKind.LIST, Reply.ERR_POLICY, b"names of exports are not listed here")
        else:
            for name in self._exports:
                self._reply(OptionKind.LIST, Reply.SERVER, protocol.sized_text(name))
            self._reply(OptionKind.LIST, Reply.ACK)

    def _contexts(self, option: int, data: bytes) -> None:
        try:
            name, queries = protocol.parse_contexts(data)
        except ValueError:
            self._reply(option, Reply.ERR_INVALID)
            return
        if not self._structured:
            self._reply(option, Reply.ERR_INVALID, b"ask for structured replies first")
            return
        if self._export(name) is None:
            self._reply(option, Reply.ERR_UNKNOWN)
            return
        every = option == OptionKind.LIST_META_CONTEXT and (not queries or "base:" in queries)
        found = every or protocol.ALLOCATION in queries
        if option == OptionKind.SET_META_CONTEXT:
            self._allocation_of = name if found else None
        if found:
            number = protocol.ALLOCATION_ID.to_bytes(4)
            self._reply(option, Reply.META_CONTEXT, number + protocol.ALLOCATION.encode())
        self._reply(option, Reply.ACK)

    def _go(self, option: int, data: bytes) -> Chosen | None:
        try:
            name, wanted = protocol.parse_go(data)
        except ValueError:
            self._reply(option, Reply.ERR_INVALID)
            return None
        export = self._export(name)
        if export is None:
            self._reply(option, Reply.ERR_UNKNOWN, b"no such export")
            return None
        self._reply(option, Reply.INFO, protocol.export_info(export.disk.size_bytes, export.flags))
        blocks = protocol.block_info(_SMALLEST_BLOCK, export.block_bytes, protocol.MAX_BLOCK_BYTES)
        self._reply(option, Reply.INFO, blocks)
        for kind, text in ((Info.NAME, export.name), (Info.DESCRIPTION, export.description)):
            if kind in wanted:
                self._reply(option, Reply.INFO, protocol.text_info(kind, text))
        self._reply(option, Reply.ACK)
        return self._chosen(export, name) if option == OptionKind.GO else None

    def _old_choice(self, data: bytes, *, zeroes: bool) -> Chosen:
        try:
            name = data.decode()
        except UnicodeDecodeError as err:
            raise Refused("a name that is not UTF-8") from err
        export = self._export(name) if self._secure else None
        if export is None:
            raise Refused("no such export")  # this option has no error
        self._stream.send(protocol.old_export(export.disk.size_bytes, export.flags, zeroes=zeroes))
        return self._chosen(export, name)

    def _chosen(self, export: Export, name: str) -> Chosen:
        return Chosen(export, self._structured, self._allocation_of == name)

    def _export(self, name: str) -> Export | None:
        """The export of that name; the only one without a name, where names are listed."""
        if not name and self._listed and len(self._exports) == 1:
            return next(iter(self._exports.values()))
        return self._exports.get(name)

    def _reply(self, option: int, kind: Reply, data: bytes = b"") -> None:
        self._stream.send(protocol.option_reply(option, kind, data))

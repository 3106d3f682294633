"""Joins PSRP fragments to messages for pypsrp, within a bound, and drops messages that hvps does not need.

pypsrp joins without a bound, and keeps every debug, verbose, warning, progress and information record of a
pipeline. Blocks of disks do not come here (``replies``).
"""

from __future__ import annotations

import binascii
import hashlib
import struct
from collections import deque
from collections.abc import Iterator
from uuid import UUID

from pypsrp.messages import Destination, Message, MessageType
from pypsrp.powershell import Fragmenter
from pypsrp.serializer import Serializer

from hvpsbridge.host.psrp.replies import END, FRAGMENT, MAX_MESSAGE_BYTES, START, BrokenStream, MessageTooLong
from hvpsbridge.host.psrp.safe_xml import check_clixml

HEADER_BYTES = 40
# hvps does not read them. A script that calls its host would wait for an answer until its deadline.
DROPPED = frozenset(
    {
        MessageType.DEBUG_RECORD,
        MessageType.VERBOSE_RECORD,
        MessageType.WARNING_RECORD,
        MessageType.PROGRESS_RECORD,
        MessageType.INFORMATION_RECORD,
        MessageType.USER_EVENT,
        MessageType.RUNSPACEPOOL_HOST_CALL,
        MessageType.PIPELINE_HOST_CALL,
    }
)

# Of stopped pipelines; the oldest is dropped.
_MAX_INCOMPLETE = 16
# More messages than one reply has that may come again.
_MAX_REMEMBERED = 1024

_TYPE = struct.Struct("<I")
# Destination and type.
_OUTGOING = struct.Struct("<II")
_TYPE_AT = 4


def input_fragments(fragmenter: Fragmenter, data: bytes, pool: str, pipeline: str) -> Iterator[bytes]:
    """Fragments of one byte array for the input of a pipeline (MS-PSRP 2.2.2.17).

    pypsrp makes an XML tree of it, and text of that for its debug log: half of what sending costs.

    Args:
        fragmenter: of the pool.
        data: the byte array.
        pool: id of the runspace pool.
        pipeline: id of the pipeline.
    """
    message = b"".join(
        (
            _OUTGOING.pack(Destination.SERVER, MessageType.PIPELINE_INPUT),
            UUID(pool).bytes_le,
            UUID(pipeline).bytes_le,
            b"<BA>",
            binascii.b2a_base64(data, newline=False),
            b"</BA>",
        )
    )
    number, fragmenter.outgoing_counter = fragmenter.outgoing_counter, fragmenter.outgoing_counter + 1
    view = memoryview(message)
    for part, at in enumerate(range(0, len(message), fragmenter.max_size)):
        piece = view[at : at + fragmenter.max_size]
        flags = (START if not at else 0) | (END if at + len(piece) == len(message) else 0)
        yield FRAGMENT.pack(number, part, flags, len(piece)) + piece


class BoundedFragmenter(Fragmenter):
    """pypsrp's fragmenter with a bound on incoming messages.

    Attributes:
        max_message_bytes: a longer message is an error.
    """

    def __init__(self, max_size: int, serializer: Serializer) -> None:
        super().__init__(max_size, serializer)
        self.max_message_bytes = MAX_MESSAGE_BYTES
        # By object id: the next fragment's number, and what came. Several only if pipelines were stopped.
        self._incomplete: dict[int, tuple[int, bytearray]] = {}
        # Messages that came whole: object id and digest.
        self._came: deque[tuple[int, bytes]] = deque(maxlen=_MAX_REMEMBERED)

    def defragment(self, data: bytes) -> list[Message]:
        """Messages that end in these fragments, in order.

        Raises:
            ValueError: fragments do not follow each other, or a message is too long or too complex.
        """
        return [
            Message.unpack(whole, self.serializer) for whole in self._whole(data) if self._is_wanted(whole)
        ]

    def _is_wanted(self, message: bytes) -> bool:
        if len(message) < HEADER_BYTES:
            raise BrokenStream("a message is shorter than its header")
        if _TYPE.unpack_from(message, _TYPE_AT)[0] in DROPPED:
            return False
        check_clixml(message[HEADER_BYTES:])
        return True

    def _is_new(self, number: int, message: bytearray) -> bool:
        """Whether a message did not come before: a reply may come twice, and no two objects have one id.

        PowerShell counts ids up for all objects of a process (docs/hyperv-facts.md#object-ids).
        """
        known = number, hashlib.sha256(message).digest()
        if known in self._came:
            return False
        self._came.append(known)
        return True

    def _whole(self, data: bytes) -> Iterator[bytes]:
        view = memoryview(data)
        start = 0
        while start < len(view):
            content = start + FRAGMENT.size
            if content > len(view):
                raise BrokenStream("a fragment is shorter than its header")
            number, index, flags, length = FRAGMENT.unpack_from(view, start)
            start = content + length
            if start > len(view):
                raise BrokenStream("a fragment is longer than its stream")
            following, pieces = self._incomplete.pop(number, (0, bytearray()))
            if index != following or bool(flags & START) == bool(following):
                raise BrokenStream(f"fragment {index} of message {number} does not follow")
            # Each fragment counts, also an empty one.
            if len(pieces) + length + index > self.max_message_bytes:
                raise MessageTooLong(f"a message is longer than {self.max_message_bytes} bytes")
            pieces += view[content:start]
            if flags & END:
                if self._is_new(number, pieces):
                    yield bytes(pieces)
                continue
            self._incomplete[number] = (index + 1, pieces)
            while sum(len(held) for _, held in self._incomplete.values()) > self.max_message_bytes or (
                len(self._incomplete) > _MAX_INCOMPLETE
            ):
                self._incomplete.pop(next(iter(self._incomplete)))

"""zstd, behind one door. Output is capped at the size the caller expects, whatever a frame claims."""

from __future__ import annotations

import threading

import zstandard

from hvpsbridge.formats.envelope import Codec
from hvpsbridge.formats.malformed import Malformed

DEFAULT_LEVEL = 3
MIN_LEVEL, MAX_LEVEL = 1, 19
# Compression must save at least this share, else the bytes are stored raw: a restore then reads them
# without work, and storage for nothing is not worth a cycle.
WORTH_IT = 0.97

# Decoders ignore this bit of the frame header descriptor (RFC 8878, 3.1.1.1.1). Encoders leave it zero, so
# where it is set something has changed the bytes.
_DESCRIPTOR_AT = 4
_UNUSED_BIT = 0x10

_local = threading.local()


def compress(data: bytes | bytearray | memoryview, level: int) -> tuple[Codec, bytes]:
    """Codec and encoded bytes; raw when compression does not pay."""
    if len(data) == 0:
        return Codec.RAW, b""
    key = f"level{level}"
    compressor: zstandard.ZstdCompressor | None = getattr(_local, key, None)
    if compressor is None:
        # Contexts are not thread-safe and cost a megabyte to make: one for each thread and level.
        compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
        setattr(_local, key, compressor)
    packed = compressor.compress(data)
    if len(packed) <= len(data) * WORTH_IT:
        return Codec.ZSTD, packed
    return Codec.RAW, bytes(data)


def expand(codec: Codec, data: bytes | bytearray | memoryview, raw_bytes: int) -> bytes:
    """The raw bytes, exactly ``raw_bytes`` of them; never more memory than that is used for output.

    Raises:
        Malformed: they cannot be got, or have another length.
    """
    if codec is Codec.RAW:
        if len(data) != raw_bytes:
            raise Malformed(f"{len(data)} raw bytes, {raw_bytes} expected")
        return bytes(data)
    decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        stated = zstandard.get_frame_parameters(data).content_size
        if stated != raw_bytes:
            raise Malformed(f"zstd frame of {stated} bytes, {raw_bytes} expected")
        if data[_DESCRIPTOR_AT] & _UNUSED_BIT:
            raise Malformed("zstd frame with an unused bit set")
        raw = decompressor.decompress(data, max_output_size=raw_bytes)
    except zstandard.ZstdError as err:
        raise Malformed(f"zstd: {err}") from err
    if len(raw) != raw_bytes:
        raise Malformed(f"{len(raw)} bytes, {raw_bytes} expected")
    return raw

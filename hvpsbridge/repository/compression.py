"""Compression with zstd. Output never exceeds the expected size, whatever a frame says."""

from __future__ import annotations

import threading

import zstandard

from hvpsbridge.formats.envelope import Codec
from hvpsbridge.formats.malformed import Malformed

DEFAULT_LEVEL = 3
MIN_LEVEL, MAX_LEVEL = 1, 19
# Bytes that compression leaves larger than this are stored raw, which costs a restore no CPU time.
MAX_RATIO = 0.97

# Decoders ignore this bit of the frame header descriptor (RFC 8878, 3.1.1.1.1). Encoders leave it zero, so if
# it is set, the bytes were changed.
_DESCRIPTOR_AT = 4
_UNUSED_BIT = 0x10

_local = threading.local()


def compress(data: bytes | bytearray | memoryview, level: int) -> tuple[Codec, bytes]:
    """Codec and encoded bytes; raw if compression saves too little."""
    if len(data) == 0:
        return Codec.RAW, b""
    key = f"level{level}"
    compressor: zstandard.ZstdCompressor | None = getattr(_local, key, None)
    if compressor is None:
        # Contexts are not thread-safe and take a megabyte, so there is one for each thread and level.
        compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
        setattr(_local, key, compressor)
    packed = compressor.compress(data)
    if len(packed) <= len(data) * MAX_RATIO:
        return Codec.ZSTD, packed
    return Codec.RAW, bytes(data)


def expand(codec: Codec, data: bytes | bytearray | memoryview, raw_bytes: int) -> bytes:
    """The decoded bytes, exactly ``raw_bytes`` long. The output never takes more memory than that.

    Raises:
        Malformed: they cannot be decoded, or have another length.
    """
    if codec is Codec.RAW:
        if len(data) != raw_bytes:
            raise Malformed(f"{len(data)} raw bytes instead of {raw_bytes}")
        return bytes(data)
    decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        stated = zstandard.get_frame_parameters(data).content_size
        if stated != raw_bytes:
            raise Malformed(f"a zstd frame of {stated} bytes instead of {raw_bytes}")
        if data[_DESCRIPTOR_AT] & _UNUSED_BIT:
            raise Malformed("a zstd frame with an unused bit set")
        raw = decompressor.decompress(data, max_output_size=raw_bytes)
    except zstandard.ZstdError as err:
        raise Malformed(f"zstd: {err}") from err
    if len(raw) != raw_bytes:
        raise Malformed(f"{len(raw)} bytes instead of {raw_bytes}")
    return raw

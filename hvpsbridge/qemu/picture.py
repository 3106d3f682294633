"""A screenshot: read from what QEMU writes, looked at, and written as PNG. Pure."""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from dataclasses import dataclass

_HEADER = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s")
_SAMPLES = 20_000
_COLOUR_TYPE_RGB = 2


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture.

    Attributes:
        pixels: red, green and blue of each pixel, rows from the top.
    """

    width: int
    height: int
    pixels: bytes

    def main_colour(self) -> tuple[tuple[int, int, int], float]:
        """The most frequent colour and its share, from a sample."""
        count = self.width * self.height
        # Odd, so that it meets other columns in each row.
        step = max(count // _SAMPLES, 1) | 1
        seen = Counter(self.pixels[at : at + 3] for at in range(0, count * 3, step * 3))
        colour, times = seen.most_common(1)[0]
        return (colour[0], colour[1], colour[2]), times / seen.total()


def read_ppm(data: bytes) -> Picture:
    """The picture in a binary PPM file, as QEMU writes it.

    Raises:
        ValueError: it is another kind of file, or cut short.
    """
    match = _HEADER.match(data)
    if match is None:
        raise ValueError("not a PPM file of 8 bits a colour")
    width, height = int(match[1]), int(match[2])
    pixels = data[match.end() :]
    if not pixels or len(pixels) != width * height * 3:
        raise ValueError(f"{len(pixels)} bytes of pixels instead of {width * height * 3}")
    return Picture(width, height, pixels)


def png(picture: Picture) -> bytes:
    """The picture as a PNG file (ISO/IEC 15948)."""
    stride = picture.width * 3
    rows = b"".join(b"\0" + picture.pixels[at : at + stride] for at in range(0, len(picture.pixels), stride))
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, _COLOUR_TYPE_RGB, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )

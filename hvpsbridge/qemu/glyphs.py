"""Text that a screen shows in the font of PC firmware, which Linux uses, too.

The font is the public-domain one of SeaBIOS (``vgasrc/vgafonts.c``), 8 by 16 pixels; others are not read.
"""

from __future__ import annotations

import base64
import functools
import zlib

from hvpsbridge.qemu.picture import Picture

# ASCII from the space to the tilde, 16 bytes each, a bit for a pixel.
_FONT = zlib.decompress(
    base64.b64decode(
        "eNp1VL1q5DAQNilUGZNSxZIqD+DqMIceRoRDpFCxlXEhTKp9h3sb3xpUmSuvsTGp9tqtQorFvtFoJMsb7sO7+PM3mn87y+7BhRCc"
        "8wwuB6XU895A60XjD625sefOMHayhk5kZ5vzUtqTZ5XWVT0Nw1AjLctS7tyBLYLnnsMNgpfRRIlVqDRF3oZYybPkQLZkX+uKJx6Y"
        "y69780yovh/HvleC7KqGI1rPjfXmdomcCcaYNZT/QehhgYSfKHTXdbdEryRwCyC+wHlfc/AHUqK7+xbO580u86Rg4qFcTA+6xqJB"
        "i1cAas4m+s+T+eKDeZ6njuI/VtraxSXk+Q02wMBP3UK/zlBhdw79+tQKoT+pPvXy2rzKF7XsuJTX5PxsrfruuYuE4Sie4ATy/4Tb"
        "APtD/bhAqKaBoBfPrxIR4/V/1xXGCSD/l49l/r35x14n/cb65JYf6X9mkxdRdzVeoi6rnMXz6/hzl6+98997KMETPo6rUoGDxN0W"
        "Rl2JxN/an9zwfvUr9ackkJ69de/H6lCwB9JzggjTzP6H1b2O/OvzJjfxfc3epWxwxCbqxsIChPoOEEkPmz3qy6ZX+oe8Jv0F1M58"
        "MDmOFPzrWm39hb2s0n4ylhUMoXDlwN4vANlXd/viVmQdHSKf/IYm+SXzibqJKYb8wis91WqXv3EbEM4/luXNjePbIep4POnHbv6e"
        "uwXYOIiwAJH7/WlZHl6pwX1Pab8LKPXo6i3ih4/jH/l3mrPhRypmSkf7D5OXZUI="
    )
)
# The console of Linux has these letters, which are 8 pixels wide in the font above, with a gap.
_NARROW = {
    "0": 0x0000386CC6C6D6D6C6C66C3800000000,
    "M": 0x0000C6EEFEFED6C6C6C6C6C600000000,
    "T": 0x00007E7E5A1818181818183C00000000,
    "V": 0x0000C6C6C6C6C6C6C66C381000000000,
    "W": 0x0000C6C6C6C6D6D6D6FEEE6C00000000,
    "X": 0x0000C6C66C7C38387C6CC6C600000000,
    "Y": 0x0000666666663C181818183C00000000,
    "Z": 0x0000FEC6860C183060C2C6FE00000000,
    "f": 0x00001C36323078303030307800000000,
    "m": 0x0000000000ECFED6D6D6D6C600000000,
    "v": 0x0000000000C6C6C6C6C66C3800000000,
    "w": 0x0000000000C6C6D6D6D6FE6C00000000,
    "x": 0x0000000000C66C3838386CC600000000,
    "~": 0x0076DC00000000000000000000000000,
}
HEIGHT = 16
WIDTH = 8
# In text mode, QEMU shows cells of 9 pixels.
_TEXT_MODE = (720, 400)
_TEXT_MODE_WIDTH = 9
# In place of a cell that does not look like a letter of the font.
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
# Two rows of a cell, below most letters.
_CURSOR = 0xFFFF << 8
# Fonts of Linux and of firmware differ in a few pixels of a letter; different letters in more.
_MAX_PIXELS = 6

_LETTERS = {
    int.from_bytes(_FONT[number * HEIGHT :][:HEIGHT]): chr(32 + number)
    for number in range(len(_FONT) // HEIGHT)
} | {bits: letter for letter, bits in _NARROW.items()}


def is_text_mode(picture: Picture) -> bool:
    """Whether the screen is 80 columns by 25 lines of text."""
    return (picture.width, picture.height) == _TEXT_MODE


def lines_of(picture: Picture) -> tuple[str, ...]:
    """Lines of text, without spaces at their ends; cells that are not of the font are :data:`UNREADABLE`."""
    width = _TEXT_MODE_WIDTH if is_text_mode(picture) else WIDTH
    return tuple(
        "".join(
            _cell(picture, column * width, row * HEIGHT) for column in range(picture.width // width)
        ).rstrip()
        for row in range(picture.height // HEIGHT)
    )


def _cell(picture: Picture, left: int, top: int) -> str:
    pixels, stride = picture.pixels, picture.width * 3
    start = top * stride + left * 3
    # No letter has its upper left pixel set.
    blank = pixels[start : start + 3] * WIDTH
    bits = 0
    for at in range(start, start + HEIGHT * stride, stride):
        row = pixels[at : at + WIDTH * 3]
        bits = bits << WIDTH | (0 if row == blank else _row_bits(row, blank))
    return _letter(bits) if bits else " "


@functools.lru_cache(maxsize=4096)
def _row_bits(row: bytes, blank: bytes) -> int:
    bits = 0
    for at in range(0, WIDTH * 3, 3):
        bits = bits << 1 | (row[at : at + 3] != blank[:3])
    return bits


@functools.lru_cache(maxsize=4096)
def _letter(bits: int) -> str:
    """The letter that differs the least, if it is close; under the cursor, too."""
    if bits & _CURSOR == _CURSOR:
        bits &= ~_CURSOR
    if not bits:
        return " "
    found = min(_LETTERS, key=lambda known: (known ^ bits).bit_count())
    return _LETTERS[found] if (found ^ bits).bit_count() <= _MAX_PIXELS else UNREADABLE

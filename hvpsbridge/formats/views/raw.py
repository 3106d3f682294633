"""Raw images and fixed VHDs: the disk as it is."""

from __future__ import annotations

from collections.abc import Iterable

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.views.view import DiskShape, ImageView, Payload, Placed


def raw_view(shape: DiskShape, extents: Iterable[Extent]) -> ImageView:
    """The disk, byte for byte. What it holds makes no difference."""
    return ImageView(shape.size_bytes, (), Payload([Placed(0, 0, shape.size_bytes)]))

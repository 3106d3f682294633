"""Pure values and codecs: bytes in, values out. Nothing here does I/O."""

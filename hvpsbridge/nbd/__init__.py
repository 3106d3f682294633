"""An NBD server: disks as exports, to be read, and with an overlay to be written (docs/restore.md#serve)."""

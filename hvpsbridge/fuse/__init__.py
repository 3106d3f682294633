"""A read-only file system of computed files, by libfuse 3 (docs/restore.md#mount)."""

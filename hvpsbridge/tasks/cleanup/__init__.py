"""Finding and removing what backups leave on a host."""

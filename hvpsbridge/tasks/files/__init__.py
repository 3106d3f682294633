"""Single files of a recovery point."""

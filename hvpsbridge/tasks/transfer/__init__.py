"""Reading frozen disks and storing what changed."""

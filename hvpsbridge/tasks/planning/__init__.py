"""What a backup will do, decided without touching the host."""

"""Decides what a backup will do, without changing anything."""

"""Retention of recovery points: prune, forget, and getting the space back."""

"""Starts QEMU and watches a guest boot: its screen, its serial line and its agent."""

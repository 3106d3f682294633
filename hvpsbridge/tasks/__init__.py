"""The tasks of a playbook (backup, verify, restore), and the runner that runs them.

The only layer that knows hosts, the receiver and the repository together.
"""

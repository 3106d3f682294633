"""What a playbook's tasks do: plan, backup, settle, restore, verify, and the runner that puts them to work.

The only layer that knows hosts, the receiver and the repository together.
"""

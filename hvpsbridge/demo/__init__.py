"""The demonstration: simulated VMs backed up, changed and restored, with a proof of each disk."""

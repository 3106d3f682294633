"""The demo: simulated VMs are backed up, changed and restored, and each disk is checked."""

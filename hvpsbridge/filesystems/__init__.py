"""Reading files out of a disk: partitions, LVM and file systems, by libraries, in a child process."""

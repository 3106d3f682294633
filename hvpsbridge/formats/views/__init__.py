"""Views: image files of a disk, computed from where the disk has data; nothing is read to make one."""

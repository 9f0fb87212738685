"""Volumes and the engines that serve them: mounts, values, restart. It sees the kernel room, never a source."""

"""Deletion of old snapshots and of the objects that nothing names any more."""

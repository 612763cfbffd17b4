"""The trials of a sweep and their order."""

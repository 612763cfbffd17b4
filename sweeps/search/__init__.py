"""Which trials a sweep runs, and in which order."""

"""The tables, one kind a file."""

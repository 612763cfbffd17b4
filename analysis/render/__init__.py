"""The table object, and one file per output format."""

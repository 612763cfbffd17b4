"""The commands as functions: they return objects, raise ``LinsweepError`` and print nothing."""

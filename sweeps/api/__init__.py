"""What the commands do, as functions: they return objects, raise ``LinsweepError`` and print nothing."""

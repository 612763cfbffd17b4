"""The figures, one file for each kind."""

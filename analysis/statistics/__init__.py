"""Statistics of arrays: numpy in, numpy out."""

"""The configurations of a record: their replicates, their order, and which are best."""

"""The folder of a sweep: its file names, sweep.json, locks, the ledger, and the origin of results."""

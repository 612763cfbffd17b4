"""Recorded sweeps, read from folders, from MLflow or from an exported file, as tidy frames."""

"""Orchestration of sweeps: Ray Tune, Optuna and MLflow around linearizer_core."""

"""MLflow, fed from the journals."""

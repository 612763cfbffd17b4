"""One trial: a configuration in, a record out, without Ray or MLflow."""

"""One trial: a configuration in, a record out. It needs neither Ray nor MLflow."""

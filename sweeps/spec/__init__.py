"""A sweep's YAML file: read, checked whole, and turned into typed objects."""

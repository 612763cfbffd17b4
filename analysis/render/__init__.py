"""One table object, and one file for each way of writing it down."""

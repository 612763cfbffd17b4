"""One table object, and the formats that it is written in."""

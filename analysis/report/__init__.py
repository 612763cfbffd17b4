"""The report on a record: the page, the appendix, and the lists of their tables and figures."""

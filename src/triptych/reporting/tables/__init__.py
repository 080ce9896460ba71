"""The tables of the report, by topic."""

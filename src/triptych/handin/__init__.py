"""The coursework: what is handed in."""

"""How many documents and seeds a comparison needs to detect a difference, and what it costs."""

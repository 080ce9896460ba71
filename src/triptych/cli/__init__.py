"""The terminal: parse, call the API, print."""

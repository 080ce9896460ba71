"""Files on disk, whatever they contain: written whole or not at all, locked, and cached within a bound."""

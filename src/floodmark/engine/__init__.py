"""Engines: they run many independent tasks at once."""

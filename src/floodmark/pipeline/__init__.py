"""A run, from its settings to the committed manifest: one file per step."""

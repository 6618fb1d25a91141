"""The demo, and the servers for it and for the tests. `story.main` is the entry point."""

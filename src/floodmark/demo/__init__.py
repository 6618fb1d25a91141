"""The demo, and the servers it and the tests run on. `story.main` is the way in."""

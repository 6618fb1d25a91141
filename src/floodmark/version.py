"""The version of this package. It equals the one in pyproject.toml, and a test compares them."""

__version__ = "0.2.0"

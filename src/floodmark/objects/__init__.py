"""The bytes of a data object."""

"""Proof that a snapshot is whole: the manifest, its objects, their content, and the database itself."""

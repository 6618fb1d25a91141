"""Any database that SQLAlchemy knows, as a source. `dialect` is the seam, `snapshot` the source."""

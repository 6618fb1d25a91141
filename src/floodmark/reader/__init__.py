"""Reader for landed data. See docs/consumers.md.

    import floodmark

    snapshot = floodmark.open("s3://my-lake/cases").latest()

`reader` holds the classes that a program uses. `schema` describes the tables. `types` maps each source type to its
target types. No module here needs a database driver.
"""

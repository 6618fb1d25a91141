"""The contract against a database: the comparison, the tables that it refuses, and the file that people review.

`compare` finds the differences, `apply` turns them into decisions about tables, `text` writes the file, and `edit`
takes over what was approved. All of it is pure.
"""

"""The escapes of `floodmark.escaping`, under the name that the modules for output know."""

from floodmark.escaping import printable, printable_json, printable_rows

__all__ = ["printable", "printable_json", "printable_rows"]

"""The help formatter for terminals, in the same shape as the plain one. It is loaded only to print a help text."""

from __future__ import annotations

from rich.text import Text
from rich_argparse import RichHelpFormatter


class ColouredFormatter(RichHelpFormatter):
    """A coloured help formatter that keeps the lines of a text with line breaks, and wraps any other text."""

    group_name_formatter = str
    help_markup = False
    text_markup = False
    styles = {  # noqa: RUF012 - declared so by the base class
        **RichHelpFormatter.styles,
        "argparse.groups": "bold",
        "argparse.prog": "default",
    }

    def _rich_fill_text(self, text: Text, width: int, indent: Text) -> Text:
        if "\n" not in text.plain:
            return super()._rich_fill_text(text, width, indent)
        return Text("\n").join(indent + line for line in text.split()) + "\n\n"

"""The entry point of `python -m floodmark`."""

import sys

from floodmark.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""Entry point of `python -m feller`, which runs the command line."""

import sys

from feller.app.cli import main

sys.exit(main())

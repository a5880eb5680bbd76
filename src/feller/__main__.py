"""python -m feller."""

import sys

from feller.app.cli import main

sys.exit(main())

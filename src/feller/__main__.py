"""python -m feller."""

import sys

from feller.cli import main

sys.exit(main())

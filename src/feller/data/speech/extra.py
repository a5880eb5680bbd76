"""The packages that speech needs and nothing else does."""

import importlib
from typing import Any

from feller.errors import UsageError


def need(package: str, purpose: str) -> Any:
    """Return a package that is imported only where sounds are read or made.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # soundfile raises the latter where the system lacks its library
        name = package.partition(".")[0]
        raise UsageError(f"{purpose} needs {name}: pip install 'feller[speech]'") from error

"""Packages of extras, which are imported only where they are used."""

import importlib
from typing import Any

from feller.core.errors import UsageError


class NotInstalledError(UsageError):
    """A package of an extra is not there."""


def require_package(package: str, purpose: str, extra: str = "speech") -> Any:
    """Return a package of an extra.

    Raises:
        NotInstalledError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # soundfile raises the latter where the system lacks its library
        name = package.partition(".")[0]
        raise NotInstalledError(f"{purpose} needs {name}: pip install 'feller[{extra}]'") from error

"""Optional dependencies, imported on first use."""

import importlib
from typing import Any

from feller.core.errors import UsageError


class NotInstalledError(UsageError):
    """Error for a missing optional dependency."""


def require_package(package: str, purpose: str, extra: str = "speech") -> Any:
    """Import a package that belongs to an optional extra of feller.

    Args:
        package: Name of the module to import.
        purpose: Task that needs the package, the start of the error message.
        extra: Name of the extra, for the installation command in the message.

    Raises:
        NotInstalledError: If the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # soundfile raises OSError if libsndfile is missing
        name = package.partition(".")[0]
        raise NotInstalledError(f"{purpose} needs {name}: pip install 'feller[{extra}]'") from error

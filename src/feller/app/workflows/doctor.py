"""Check of the installation, the hardware and the current folder; works even if dependencies are missing."""

import importlib.metadata
import os
import pathlib
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any

LEAST_DISK = 2**30
"""Free disk space in bytes below which the check fails; fitting a large model requires more space."""
OWN_EXTRAS = ("dev", "docs")
"""Names of the extras (optional dependencies) that are only needed to develop feller itself."""


def diagnose(folder: pathlib.Path = pathlib.Path()) -> dict[str, Any]:
    """Check the installation, and measure the speed of the device.

    Return the versions of packages, the device, the missing packages of extras (optional dependencies), access to the
    run folder, and the speed of a matrix product. `broken` maps each required part that fails to the reason.
    """
    from packaging.requirements import Requirement

    broken: dict[str, str] = {}
    versions: dict[str, str | None] = {"python": platform.python_version(), "feller": _version("feller")}
    extras: dict[str, dict[str, Any]] = {}
    extra_names = set(importlib.metadata.metadata("feller").get_all("Provides-Extra") or ()) - {*OWN_EXTRAS}
    for req in map(Requirement, importlib.metadata.requires("feller") or ()):
        version = _version(req.name)
        if req.marker is None or req.marker.evaluate({"extra": ""}):
            versions[req.name] = version
            if version is None or not req.specifier.contains(version, prereleases=True):
                reason = "missing" if version is None else f"{version} is installed; {req.specifier} is required"
                broken[req.name] = f"{reason}: pip install '{req.name}{req.specifier}'"
        for name in sorted(extra_names):
            if req.marker is not None and req.name != "feller" and req.marker.evaluate({"extra": name}):
                missing = extras.setdefault(name, {"missing": []})["missing"]
                missing += [req.name] if version is None else []
    findings: dict[str, Any] = {
        "system": platform.platform(),
        "versions": versions,
        "extras": dict(sorted(extras.items())),
    }
    for name, check in (("device", _device), ("folder", lambda: _folder(folder)), ("speed", _speed)):
        try:
            findings[name] = check()
        except Exception as error:
            findings[name], broken[name] = None, f"{type(error).__name__}: {error}"
    return {**findings, "broken": broken}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    import torch

    has_gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name(0) if has_gpu else "processor"
    count = torch.cuda.device_count() if has_gpu else 1
    return {"name": name, "count": count, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def _folder(folder: pathlib.Path) -> dict[str, Any]:
    """Check that files in the folder can be written and locked, and return the findings."""
    from feller.core.errors import InputError
    from feller.core.run_folder import Run
    from feller.core.serialization import replace_file

    with tempfile.TemporaryDirectory(prefix=".feller-doctor-", dir=folder) as temp_folder:
        run = Run(pathlib.Path(temp_folder))
        replace_file(run.path / "written", "feller")
        with run.lock():
            try:
                with run.lock():
                    raise OSError("this file system does not support locks, so two processes could write to one run")
            except InputError:
                pass
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < LEAST_DISK:
        raise OSError(f"only {free_bytes / 2**20:.0f} MB are free")
    return {"path": str(folder.resolve()), "free_gb": round(free_bytes / 2**30, 1), "writes": True, "locks": True}


def _speed() -> dict[str, Any]:
    """Measure the speed of a matrix product, after one warm-up product."""
    import torch

    a = torch.ones(512, 512, device="cuda" if torch.cuda.is_available() else "cpu")
    for _ in range(2):
        start = time.perf_counter()
        (a @ a).sum().item()
        seconds = max(time.perf_counter() - start, 1e-9)
    return {"matrix_product_ms": round(1e3 * seconds, 3), "gflops": round(2 * 512**3 / seconds / 1e9, 1)}


def lines(findings: dict[str, Any]) -> Iterator[str]:
    """Yield lines of text that show the result `findings` of `diagnose`."""
    yield f"system    {findings['system']}"
    versions = (f"{name} {version or 'missing'}" for name, version in findings["versions"].items())
    yield f"versions  {', '.join(versions)}"
    for name in ("device", "folder", "speed"):
        if findings[name]:
            yield f"{name:<9} {', '.join(f'{key} {value}' for key, value in findings[name].items())}"
    for name, extra in findings["extras"].items():
        missing = ", ".join(extra["missing"])
        status_text = f"missing {missing}: pip install 'feller[{name}]'" if missing else "installed"
        yield f"extra     {name}: {status_text}"
    for name, reason in findings["broken"].items():
        yield f"BROKEN    {name}: {reason}"
    yield "a required part is broken" if findings["broken"] else "all required parts work"

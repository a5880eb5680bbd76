"""Whether feller can work on this machine and in this folder, and how fast, also where something is missing."""

import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

PURPOSES = {
    "bridges": "transport between large populations, point clouds (.las, .laz)",
    "crystals": "CIF files, validity of crystals",
    "export": "feller export --to onnx",
    "judges": "what is heard in speech, how good it sounds, whose voice it is",
    "molecules": "validity and properties of molecules",
    "peers": "benchmarks against other libraries",
    "proteins": "PDB and mmCIF files",
    "potentials": "energies of crystals as rewards",
    "release": "the bill of materials and known weaknesses of what is released",
    "retrieval": "fast search among many documents",
    "serve": "the page in the browser",
    "speech": "sounds and their phones",
    "stream": "data sets that do not fit on the disk",
    "tables": "private tables, parquet, how useful synthetic rows are",
}
"""What each extra is for; those of our own work are left out."""
OURS = ("dev", "docs")
LEAST_DISK = 2**30
"""Bytes; a fit of a large model writes more."""
SIDE, TIMES = 512, 5
"""Of the matrices that are multiplied, and how often; the best counts."""


def examine(folder: pathlib.Path = pathlib.Path()) -> dict[str, Any]:
    """Return what was found: versions, device, extras, disk, folder, speed; `broken` names what is needed and fails.

    Args:
        folder: Where runs are to be written.
    """
    broken: dict[str, str] = {}
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **_versions(broken)},
        "extras": _extras(),
    }
    for name, look in (("device", _device), ("folder", lambda: _folder(folder)), ("speed", _speed)):
        try:
            found[name] = look()
        except Exception as error:
            found[name] = None
            broken[name] = f"{type(error).__name__}: {error}"
    return {**found, "broken": broken}


def _requirements() -> Iterator[tuple[str, str, str]]:
    """Yield package, versions and extra of what we are made of, as the installed package says."""
    for line in importlib.metadata.requires("feller") or ():
        named = re.match(r"([\w.\-]+)(?:\[[\w,\-]+\])?([^;]*)(?:;(.*))?$", line)
        if named:
            extra = re.search(r"extra == ['\"]([\w\-]+)['\"]", named[3] or "")
            yield named[1], named[2].strip(), extra[1] if extra else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions(broken: dict[str, str]) -> dict[str, str | None]:
    """Return the versions of what is always needed."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        broken["packaging"] = "missing: pip install packaging"
        return {"feller": _version("feller")}
    found: dict[str, str | None] = {"feller": _version("feller")}
    for package, wanted, extra in _requirements():
        if extra:
            continue
        version = found[package] = _version(package)
        if version is None:
            broken[package] = f"missing: pip install '{package}{wanted}'"
        elif not SpecifierSet(wanted, prereleases=True).contains(version):
            broken[package] = f"{version} is installed, and {wanted} is needed: pip install '{package}{wanted}'"
    return found


def _extras() -> dict[str, dict[str, Any]]:
    """Say of each extra whether it is there, what is missing, and what it is for."""
    packages: dict[str, list[str]] = {}
    for package, _, extra in _requirements():
        if extra and extra not in OURS and package != "feller":
            packages.setdefault(extra, []).append(package)
    return {
        extra: {
            "missing": [package for package in sorted(set(names)) if _version(package) is None],
            "for": PURPOSES.get(extra, ""),
        }
        for extra, names in sorted(packages.items())
    }


def _device() -> dict[str, Any]:
    """Say what computes."""
    import torch

    able = torch.cuda.is_available()
    memory = torch.cuda.get_device_properties(0).total_memory if able else _memory()
    return {
        "name": torch.cuda.get_device_name(0) if able else "processor",
        "count": torch.cuda.device_count() if able else 1,
        "precision": "bfloat16" if able and torch.cuda.is_bf16_supported() else "float32",
        "memory_gb": None if memory is None else round(memory / 2**30, 1),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _memory() -> int | None:
    """Return the bytes of memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _folder(folder: pathlib.Path) -> dict[str, Any]:
    """Write a file, hold its lock, and see that nobody else gets it.

    Raises:
        OSError: If that fails, or little room is left.
    """
    from feller.core.errors import InputError
    from feller.core.run_folder import Run
    from feller.core.serialization import replace_file

    free = shutil.disk_usage(folder).free
    with tempfile.TemporaryDirectory(prefix=".feller-doctor-", dir=folder) as place:
        run = Run(pathlib.Path(place))
        replace_file(run.path / "written", "feller")
        with run.lock():
            try:
                with run.lock():
                    raise OSError("two processes could write to one run: this file system has no locks")
            except InputError:
                pass
    if free < LEAST_DISK:
        raise OSError(f"only {free / 2**20:.0f} MB are free")
    return {"path": str(folder.resolve()), "free_gb": round(free / 2**30, 1), "writes": True, "locks": True}


def _speed(clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Multiply two matrices."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a = torch.ones(SIDE, SIDE, device=device)
    best = float("inf")
    for _ in range(TIMES + 1):  # the first is slower
        begun = clock()
        (a @ a).sum().item()
        best = min(best, clock() - begun)
    return {"matrix_product_ms": round(1e3 * best, 3), "gflops": round(2 * SIDE**3 / max(best, 1e-9) / 1e9, 1)}


def told(found: dict[str, Any]) -> Iterator[str]:
    """Yield lines for people."""
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in found["versions"].items())
    yield f"system    {found['system']}"
    yield f"versions  {versions}"
    if device := found["device"]:
        yield (
            f"device    {device['count']} x {device['name']}, {device['memory_gb']} GB, computes in"
            f" {device['precision']}; {device['threads']} of {device['cores']} cores"
        )
    if folder := found["folder"]:
        yield f"folder    {folder['path']}: can be written to and locked, {folder['free_gb']} GB free"
    if speed := found["speed"]:
        yield f"speed     {SIDE} x {SIDE} matrix product in {speed['matrix_product_ms']} ms, {speed['gflops']} GFLOP/s"
    yield "extras"
    for name, extra in found["extras"].items():
        missing = ", ".join(extra["missing"])
        how = f"missing {missing}: pip install 'feller[{name}]'" if missing else "there"
        yield f"  {name:<11} {how}  ({extra['for']})"
    for name, why in found["broken"].items():
        yield f"BROKEN    {name}: {why}"
    yield "something that is needed is broken" if found["broken"] else "all that is needed works"

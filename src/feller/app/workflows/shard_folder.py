"""Output folder of sharded samples: locking, resuming, and replacement of earlier shards.

If the command is killed, the same command can resume from the folder. Because the folder may be untrusted or contain
other files, symbolic links are not followed, and only shards are removed.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from feller.app.reporter import Reporter
from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.output_shards import MANIFEST, NUMBER_PLACEHOLDER, OutputShard, ShardedSamples, open_shards
from feller.core.run_folder import Run
from feller.core.serialization import from_dict, read_json, to_dict
from feller.data.labels import abbreviated
from feller.sampling.sampler_config import SamplerConfig

WORK = ".shards"
"""Name of the folder inside the output folder for unfinished shards and records of finished shards; it is removed at
the end."""
WRITING = f"{WORK}/writing"
EARLIER_FOLDER = f"{WORK}/before"
"""Name of the folder with unverified records of shards that earlier commands wrote."""
FAILED = f"{WORK}/failed"
_OURS = re.compile(r"[0-9]+\.json|failed|\..*", re.DOTALL)
"""Regular expression for the names of feller's own files in the work folder: shard records, failure flag, and temporary
files."""


@contextlib.contextmanager
def lock_folder(target: ShardedSamples, overwrite: bool, reporter: Reporter) -> Iterator[None]:
    """Lock the output folder while the context is open, and write the manifest of the planned shards.

    Args:
        target: Planned shards, with their folder and settings.
        overwrite: True to replace shards that have other settings; with the same settings, sampling is resumed.
        reporter: Log output.

    Raises:
        UsageError: If the folder contains shards with other settings.
        InputError: If the folder contains other files, another process writes to it, or the disk is full.
    """
    folder = target.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MANIFEST).exists():
            _check_empty(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with Run(folder).lock():
        try:
            _prepare_folder(target, overwrite, reporter)
        except OSError as error:
            raise cannot_write(error.filename or folder, error) from error
        yield


def note_path(folder: pathlib.Path, number: int) -> pathlib.Path:
    """Return the path of the .json record of a finished shard."""
    return folder / f"{number}.json"


def read_note(target: ShardedSamples, number: int, where: str) -> OutputShard | None:
    """Return the record of a finished shard; None if it is missing, is damaged or does not match the planned shard."""
    path, rows = note_path(target.folder / where, number), target.rows(number)
    if not path.is_file():
        return None
    with contextlib.suppress(InputError, OSError):
        shard = from_dict(OutputShard, read_json(path))
        if (shard.file, shard.first, shard.count) == (target.file_name(number), rows.start, len(rows)):
            return shard
    return None


def remove(path: pathlib.Path) -> None:
    """Remove a file or folder; if the path is a symbolic link, remove only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _prepare_folder(target: ShardedSamples, overwrite: bool, reporter: Reporter) -> None:
    """Prepare the output folder for the planned shards: check its content, resume, or replace earlier shards."""
    folder, manifest = target.folder, target.folder / MANIFEST
    _check_work(folder)
    if os.path.lexists(manifest) and (manifest.is_symlink() or not manifest.is_file()):
        raise InputError(
            "is a symbolic link or not a file", remedy="Remove it, or choose another folder", file=manifest
        )
    _shard_paths(target)
    for path in folder.glob(f".{MANIFEST}.????????"):  # temporary files of a killed process
        if path.is_file():
            path.unlink()
    old = _existing_shards(target, overwrite) if manifest.is_file() else target
    n_existing = len(old) if old.is_finished else len({path.name for path in _notes(folder)})
    if old.request != target.request:
        if n_existing and not overwrite:
            raise UsageError(
                f"contains shards with other settings ({_difference(old.request, target.request)}); choose another"
                " folder, or replace them with --overwrite",
                file=folder,
            )
        _replace(old, target)
        n_existing = 0
    elif not old.is_finished:
        target.write()
    _reset_work_folder(folder)
    stray = target.stray_files()
    if stray:
        pattern = target.name_pattern.replace(NUMBER_PLACEHOLDER, "*")
        reporter.log(
            f"{folder} also contains {abbreviated(stray)}, which the manifest does not list: reading {pattern} may"
            " count samples twice. Move these files elsewhere"
        )
    if n_existing:
        reporter.log("1 of 1 shard exists" if len(target) == 1 else f"{n_existing:,} of {len(target):,} shards exist")


def _existing_shards(target: ShardedSamples, overwrite: bool) -> ShardedSamples:
    """Return the shards in the manifest; if it is damaged, remove its shards (with `overwrite`) and return `target`."""
    try:
        return _sampled_as_now(open_shards(target.folder))
    except InputError as error:
        if not overwrite:
            raise InputError(
                error, remedy="Copy the folder again, choose another folder, or sample again with --overwrite"
            ) from error
        # Their number is unknown, so any shard name counts.
        paths = [path for path in target.folder.iterdir() if path.name not in (MANIFEST, WORK, "lock")]
        foreign = [path for path in paths if not target.matches_pattern(path.name) or not _is_kind(path, target)]
        if foreign:
            raise InputError(f"{error}; {foreign[0]} is not a shard, so --overwrite removes nothing") from error
        remove(target.folder / WORK)
        for path in paths:
            remove(path)
        return target


def _sampled_as_now(old: ShardedSamples) -> ShardedSamples:
    """Return the shards `old` with the current field names in their recorded sampler settings.

    Settings that this version cannot read are unchanged.
    """
    with contextlib.suppress(InputError):  # settings of another version
        sampling = json.loads(json.dumps(to_dict(from_dict(SamplerConfig, old.settings.get("sampling")))))
        return replace(old, settings={**old.settings, "sampling": sampling})
    return old


def _replace(old: ShardedSamples, target: ShardedSamples) -> None:
    """Remove the shards of an earlier call, `old`, and write the manifest of the new ones, `target`.

    The old manifest stays until then, to identify shards that an interrupted call leaves behind.
    """
    old_paths = _shard_paths(old)
    foreign = [path for path in _shard_paths(target) if not old.matches_pattern(path.name)]
    if foreign:
        raise InputError(
            f"{foreign[0]} has the name of a shard to be written, but is not one of the shards to be replaced",
            remedy="Move it elsewhere",
        )
    replace(old, shards=()).write()
    remove(old.folder / WORK)
    for path in old_paths:
        remove(path)
    target.write()


def _shard_paths(target: ShardedSamples) -> list[pathlib.Path]:
    """Return all existing paths with the name of a shard.

    Raises:
        InputError: If a shard would be a file and the path is a folder, or the other way round.
    """
    paths = sorted(path for path in target.folder.iterdir() if target.shard_number(path.name) is not None)
    for path in paths:
        if not _is_kind(path, target):
            kinds = ("a file", "a folder") if target.are_folders else ("a folder", "a file")
            raise InputError(
                f"is {kinds[0]}, but a shard of this type is {kinds[1]}", remedy="Move it elsewhere", file=path
            )
    return paths


def _is_kind(path: pathlib.Path, target: ShardedSamples) -> bool:
    """Return True if `path` is a link, or a file or folder like the shards of `target`, and so may be removed."""
    return path.is_symlink() or path.is_dir() == target.are_folders


def _check_empty(folder: pathlib.Path) -> None:
    """Raise an error if the output folder contains other files; called before anything is written."""
    foreign = [path for path in folder.iterdir() if path.name != "lock" and not path.name.startswith(f".{MANIFEST}.")]
    if foreign:
        raise InputError(
            f"is not empty and contains files other than shards, such as {foreign[0].name}",
            remedy="Choose a new folder",
            file=folder,
        )


def _check_work(folder: pathlib.Path) -> None:
    """Raise an error for files in the work folder that are not ours: a symbolic link could lead to other files."""
    work_folders = [folder / name for name in (WORK, WRITING, EARLIER_FOLDER)]
    for root in work_folders:
        if os.path.lexists(root) and (root.is_symlink() or not root.is_dir()):
            raise InputError(
                "is a symbolic link or not a folder", remedy="Remove it, or choose another folder", file=root
            )
    paths = (path for root in (folder / WORK, folder / EARLIER_FOLDER) if root.is_dir() for path in root.iterdir())
    for path in paths:
        if path not in work_folders and (path.is_symlink() or not path.is_file() or not _OURS.fullmatch(path.name)):
            raise InputError(
                "was not written by `feller sample`", remedy="Move it elsewhere, or choose another folder", file=path
            )


def _notes(folder: pathlib.Path) -> list[pathlib.Path]:
    notes = [*(folder / WORK).glob("*.json"), *(folder / EARLIER_FOLDER).glob("*.json")]
    return [path for path in notes if not path.name.startswith(".")]


def _reset_work_folder(folder: pathlib.Path) -> None:
    """Empty the work folder; records of earlier shards are moved aside, because these shards are not verified yet."""
    (folder / EARLIER_FOLDER).mkdir(parents=True, exist_ok=True)
    for path in (folder / WORK).glob("*.json"):
        if not path.name.startswith("."):
            os.replace(path, folder / EARLIER_FOLDER / path.name)
    for path in (*(folder / WORK).glob(".*"), *(folder / EARLIER_FOLDER).glob(".*"), folder / FAILED):
        path.unlink(missing_ok=True)
    if (folder / WRITING).is_dir():
        shutil.rmtree(folder / WRITING)
    (folder / WRITING).mkdir()


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    names = [name for name in new if old.get(name) != new[name]]
    clauses = (line for name in names if name != "run" for line in _changes(name, old.get(name), new[name]))
    return "; ".join([*(["another run"] if "run" in names else []), *clauses])


def _changes(name: str, old: Any, new: Any) -> Iterator[str]:
    """Yield a text for each setting that changed; nested settings are compared field by field."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("is") == new.get("is"):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield from _changes(f"{name}.{key}", old.get(key), new.get(key))
    else:
        yield f"{name} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    """Return a short text for a setting; an object is represented by the name of its class."""
    return str(value["is"]) if isinstance(value, dict) and "is" in value else repr(value)

"""The folder that samples in shards go to: one command holds it, and finds there what earlier ones have done.

Whoever is killed leaves a folder with which the same command goes on, at every moment. The folder may come from a
stranger, and hold what a person laid there: nothing is followed out of it, and nothing removed that is not a shard's.
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
"""Folder in that of the shards for what is being written, and for notes of those that are done; gone at the end."""
WRITING = f"{WORK}/writing"
EARLIER_FOLDER = f"{WORK}/before"
"""Notes of earlier commands, whose shards are yet to be compared with them."""
FAILED = f"{WORK}/failed"
_OURS = re.compile(r"[0-9]+\.json|failed|\..*", re.DOTALL)
"""Files in the folder for work: notes, the sign that a process failed, and what one that was killed did not finish."""


@contextlib.contextmanager
def lock_folder(target: ShardedSamples, overwrite: bool, reporter: Reporter) -> Iterator[None]:
    """Hold the folder, and say in its manifest what will be there.

    Raises:
        UsageError: If it holds shards that were asked for otherwise.
        InputError: If it holds other things, another process writes there, or the disk refuses.
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
    """Return the file that says that a shard is done."""
    return folder / f"{number}.json"


def read_note(target: ShardedSamples, number: int, where: str) -> OutputShard | None:
    """Return what is noted of a shard; None where it is not done, or its note is damaged."""
    path, rows = note_path(target.folder / where, number), target.rows(number)
    if not path.is_file():
        return None
    with contextlib.suppress(InputError, OSError):
        shard = from_dict(OutputShard, read_json(path))
        if (shard.file, shard.first, shard.count) == (target.file_name(number), rows.start, len(rows)):
            return shard
    return None


def remove(path: pathlib.Path) -> None:
    """Remove a shard; of a link only itself."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _prepare_folder(target: ShardedSamples, overwrite: bool, reporter: Reporter) -> None:
    """Make the folder ready for what is wanted."""
    folder, manifest = target.folder, target.folder / MANIFEST
    _check_work(folder)
    if os.path.lexists(manifest) and (manifest.is_symlink() or not manifest.is_file()):
        raise InputError("is a link, or no file", remedy="Remove it, or name another folder", file=manifest)
    _shard_paths(target)
    for path in folder.glob(f".{MANIFEST}.????????"):  # what a killed process did not finish
        if path.is_file():
            path.unlink()
    old = _existing_shards(target, overwrite) if manifest.is_file() else target
    there = len(old) if old.is_finished else len({path.name for path in _notes(folder)})
    if old.request != target.request:
        if there and not overwrite:
            raise UsageError(
                f"holds shards that were asked for otherwise ({_difference(old.request, target.request)}): name another"
                " folder, or replace them with --overwrite",
                file=folder,
            )
        _replace(old, target)
        there = 0
    elif not old.is_finished:
        target.write()
    _reset_work_folder(folder)
    beyond = target.stray_files()
    if beyond:
        pattern = target.name_pattern.replace(NUMBER_PLACEHOLDER, "*")
        reporter.log(
            f"{folder} also holds {abbreviated(beyond)}, beyond the shards of its manifest: who reads {pattern} may"
            " count samples twice; move it elsewhere"
        )
    if there:
        reporter.log("1 of 1 shard is there" if len(target) == 1 else f"{there:,} of {len(target):,} shards are there")


def _existing_shards(target: ShardedSamples, overwrite: bool) -> ShardedSamples:
    """Return the shards of the manifest; of one that is damaged none, once its shards are removed."""
    try:
        return _sampled_as_now(open_shards(target.folder))
    except InputError as error:
        if not overwrite:
            raise InputError(
                error, remedy="Copy it again, name another folder, or draw all anew with --overwrite"
            ) from error
        # Nobody knows how many there were.
        own = [path for path in target.folder.iterdir() if path.name not in (MANIFEST, WORK, "lock")]
        others = [path for path in own if not target.matches_pattern(path.name) or not _is_kind(path, target)]
        if others:
            raise InputError(f"{error}; {others[0]} is no shard, so that --overwrite leaves all as it is") from error
        remove(target.folder / WORK)
        for path in own:
            remove(path)
        return target


def _sampled_as_now(old: ShardedSamples) -> ShardedSamples:
    """Return shards with the settings of their sampler by the names of now."""
    with contextlib.suppress(InputError):  # of another version, whose settings are others
        sampling = json.loads(json.dumps(to_dict(from_dict(SamplerConfig, old.settings.get("sampling")))))
        return replace(old, settings={**old.settings, "sampling": sampling})
    return old


def _replace(old: ShardedSamples, target: ShardedSamples) -> None:
    """Remove shards; their manifest stays until that of others takes its place, to say which they are meanwhile."""
    old_paths = _shard_paths(old)
    foreign = [path for path in _shard_paths(target) if not old.matches_pattern(path.name)]
    if foreign:
        raise InputError(
            f"{foreign[0]} stands where a shard goes, and is none of those to replace", remedy="Move it elsewhere"
        )
    replace(old, shards=()).write()
    remove(old.folder / WORK)
    for path in old_paths:
        remove(path)
    target.write()


def _shard_paths(target: ShardedSamples) -> list[pathlib.Path]:
    """Return all that bears the name of a shard.

    Raises:
        InputError: If that is a folder where shards are files, or the other way round: then a person made it.
    """
    paths = sorted(path for path in target.folder.iterdir() if target.shard_number(path.name) is not None)
    for path in paths:
        if not _is_kind(path, target):
            kinds = ("a file", "a folder") if target.are_folders else ("a folder", "a file")
            raise InputError(f"is {kinds[0]} where a shard is {kinds[1]}", remedy="Move it elsewhere", file=path)
    return paths


def _is_kind(path: pathlib.Path, target: ShardedSamples) -> bool:
    """Tell whether we may remove it as a shard: a folder only where shards are folders; of a link only itself."""
    return path.is_symlink() or path.is_dir() == target.are_folders


def _check_empty(folder: pathlib.Path) -> None:
    """Refuse a folder of others, before anything is written to it."""
    others = [path for path in folder.iterdir() if path.name != "lock" and not path.name.startswith(f".{MANIFEST}.")]
    if others:
        raise InputError(
            f"is not empty and holds no shards, such as {others[0].name}", remedy="Name a new folder", file=folder
        )


def _check_work(folder: pathlib.Path) -> None:
    """Refuse what we did not write where we write and remove: a link there would lead to the files of others."""
    work = [folder / name for name in (WORK, WRITING, EARLIER_FOLDER)]
    for place in work:
        if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            raise InputError("is a link, or no folder", remedy="Remove it, or name another folder", file=place)
    inside = (path for place in (folder / WORK, folder / EARLIER_FOLDER) if place.is_dir() for path in place.iterdir())
    for path in inside:
        if path not in work and (path.is_symlink() or not path.is_file() or not _OURS.fullmatch(path.name)):
            raise InputError(
                "is none of a sampling's files", remedy="Move it elsewhere, or name another folder", file=path
            )


def _notes(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return what earlier commands noted."""
    notes = [*(folder / WORK).glob("*.json"), *(folder / EARLIER_FOLDER).glob("*.json")]
    return [path for path in notes if not path.name.startswith(".")]


def _reset_work_folder(folder: pathlib.Path) -> None:
    """Empty the folder for our work; notes of others are kept apart, so that nobody takes their shards for checked."""
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
    """Say what differs between two askings."""
    names = [name for name in new if old.get(name) != new[name]]
    clauses = (line for name in names if name != "run" for line in _changes(name, old.get(name), new[name]))
    return "; ".join([*(["of another run"] if "run" in names else []), *clauses])


def _changes(name: str, old: Any, new: Any) -> Iterator[str]:
    """Say what was one thing and is another; of what has parts, such as `sampling`, which of these."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("is") == new.get("is"):
        for part in sorted(old.keys() | new.keys()):
            if old.get(part) != new.get(part):
                yield from _changes(f"{name}.{part}", old.get(part), new.get(part))
    else:
        yield f"{name} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    """Write a value; of an object, its kind."""
    return str(value["is"]) if isinstance(value, dict) and "is" in value else repr(value)

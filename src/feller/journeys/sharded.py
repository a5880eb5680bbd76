"""Many samples in shards: drawn by any number of processes, killed and gone on with, always the same bytes."""

import contextlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from feller.data.modality import Modality
from feller.errors import InputError, UsageError, cannot_write
from feller.journeys.drawing import Drawing
from feller.journeys.tell import SILENT, Tell
from feller.record import from_data, read_json, to_data, write_json
from feller.run import Run
from feller.sharding import MANIFEST, NUMBER, Shard, Shards, is_whole, measured, shards
from feller.train.engine import engine

WORK = ".shards"
"""Folder in that of the shards for what is being written, and for records of those that are done; gone at the end."""
FAILED = "failed"
NAME = f"samples-{NUMBER}.npz"
LONGEST_SLEEP = 1.0
"""Seconds between two looks at what other processes have done, at most."""


def sample_shards(
    run: Run,
    drawing: Drawing,
    n: int,
    shard: int,
    *,
    out: str | None = None,
    overwrite: bool = False,
    tell: Tell = SILENT,
) -> Shards:
    """Draw samples and write them in shards, with a manifest; what an earlier process finished is kept.

    Each process draws whole shards, those whose number it has modulo the number of processes, and none waits for
    another before the end.

    Args:
        run: Whose samples they are.
        drawing: What is asked of them.
        n: Number of samples in all.
        shard: In each file but the last.
        out: FOLDER for FOLDER/samples-00000.npz and so on, FOLDER/NAME.ENDING for FOLDER/NAME-00000.ENDING, or a path
            whose last part has {shard} where the number goes, without an ending for folders; by default `shards` in the
            run.
        overwrite: Replace the shards of other settings.
        tell: Hears how it goes.

    Returns:
        The shards; to other processes than the first before all may be written.

    Raises:
        UsageError: If the folder holds shards of other settings, or an argument is wrong.
        InputError: If the folder holds other things, another process writes there, or the disk is full.
    """
    if n < 1 or shard < 1:
        raise UsageError(f"-n and --shard must be at least 1, got {n} and {shard}")
    here, modality = engine(), drawing.model.description.modality
    folder, name = _place(run, out, modality)
    wanted = Shards(folder, n, shard, name, _settings(run, drawing))
    with _agreed(wanted, overwrite, tell), _told(folder):
        tell.task(f"sampling {len(wanted):,} shards")
        _draw(wanted, drawing, range(here.rank, len(wanted), here.ranks), tell)
        if not here.is_first:
            return wanted
        _wait(wanted, tell)
        records = (_record(wanted, number) for number in range(len(wanted)))
        done = replace(wanted, written=tuple(record for record in records if record is not None))
        done.write()
        shutil.rmtree(folder / WORK)
        tell.done()
    return done


def _place(run: Run, out: str | None, modality: Modality) -> tuple[pathlib.Path, str]:
    """Return folder and pattern of the names.

    Raises:
        UsageError: If the number stands in the wrong place, or such data cannot be written so.
    """
    path = run.path / "shards" if out is None else pathlib.Path(out)
    if NUMBER in str(path):
        if path.name.count(NUMBER) != 1 or NUMBER in str(path.parent):
            raise UsageError(f"{NUMBER} stands once, in the last part of --out, got {out}")
        folder, name = path.parent, path.name
    elif path.suffix[1:2].isalpha() and not path.is_dir():
        folder, name = path.parent, f"{path.stem}-{NUMBER}{path.suffix}"
    else:
        folder, name = path, NAME
    modality.check_form(folder / name)
    return folder, name


def _settings(run: Run, drawing: Drawing) -> dict[str, Any]:
    """Return what decides the samples, as JSON holds it: also what moves them by rounding."""
    parts = (run.part(name) for name in drawing.model.description.modality.modules)
    hashes = {path.name: measured(path)[1] for path in (run.model, run.average, *parts)}
    made = {"device": engine().device.type, "torch": torch.__version__}
    return json.loads(json.dumps({"run": hashes, **drawing.record, **made}))


@contextlib.contextmanager
def _agreed(wanted: Shards, overwrite: bool, tell: Tell) -> Iterator[None]:
    """Let the first process hold the folder, and all others know whether it could."""
    here, refused = engine(), None
    with contextlib.ExitStack() as held:
        if here.is_first:
            try:
                held.enter_context(_claim(wanted, overwrite, tell))
            except (InputError, UsageError) as error:
                refused = error
        told = here.share("" if refused is None else f"{refused} ")  # an empty line means that all is well
        if refused is not None:
            raise refused
        if told:
            raise InputError(f"the first process ended: {told.strip()}")
        yield


@contextlib.contextmanager
def _claim(wanted: Shards, overwrite: bool, tell: Tell) -> Iterator[None]:
    """Hold the folder, and say in its manifest what will be there."""
    folder, manifest = wanted.folder, wanted.folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    others = [path for path in folder.iterdir() if path.name not in ("lock", WORK) and MANIFEST not in path.name]
    if others and not manifest.is_file():
        raise InputError(f"{folder} is not empty and holds no shards, such as {others[0].name}; name a new folder")
    with Run(folder).lock():
        old = shards(folder) if manifest.is_file() else wanted
        there = len(list((folder / WORK).glob("*.json"))) if not old.finished else len(old)
        if overwrite or (old.asked != wanted.asked and not there):
            _remove(old)
            old, there = wanted, 0
        if old.asked != wanted.asked:
            raise UsageError(
                f"{folder} holds shards that were asked for otherwise ({_difference(old.asked, wanted.asked)}): name"
                " another folder, or replace them with --overwrite"
            )
        for path in folder.glob(f".{MANIFEST}.????????"):  # what a killed process did not finish
            path.unlink()
        for path in (folder / WORK).glob(".*"):
            path.unlink()
        (folder / WORK / FAILED).unlink(missing_ok=True)
        shutil.rmtree(folder / WORK / "writing", ignore_errors=True)
        (folder / WORK / "writing").mkdir(parents=True)
        if there:
            tell.say(f"{there:,} of {len(wanted):,} shards are there")
        if not old.finished:
            wanted.write()
        yield


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say what differs between two askings."""
    names = [name for name in new if old.get(name) != new[name]]
    told = (f"{name} was {old.get(name)!r}, is {new[name]!r}" for name in names if name != "run")
    return "; ".join([*(["of another run"] if "run" in names else []), *told])


def _remove(old: Shards) -> None:
    """Remove shards, and their manifest first: without it nothing is taken for one."""
    (old.folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(old.folder / WORK, ignore_errors=True)
    for number in range(len(old)):
        _clear(old.folder / old.file(number))


def _clear(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(folder: pathlib.Path) -> Iterator[None]:
    """Let the first process know if another fails; say how to go on if it is interrupted."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; shards that are written stay, and the same command goes on") from error
    except Exception:
        if not engine().is_first:
            (folder / WORK / FAILED).touch()
        raise


def _draw(wanted: Shards, drawing: Drawing, mine: range, tell: Tell) -> None:
    """Draw those of our shards that are not there."""
    manifest = shards(wanted.folder)
    for place, number in enumerate(mine):

        def share(done: float, place: int = place) -> None:
            tell.progress((place + done) / len(mine))

        known = manifest.written[number] if manifest.finished else _record(wanted, number)
        if known is None or not is_whole(wanted.folder, known):
            if known is not None:
                tell.say(f"{wanted.folder / known.file} is damaged or gone, and drawn again")
            known = _written(wanted, drawing, number, share)
        write_json(_note(wanted, number), to_data(known))
        share(1.0)


def _written(wanted: Shards, drawing: Drawing, number: int, share: Any) -> Shard:
    """Draw a shard and write it, whole or not at all."""
    rows, file = wanted.rows(number), wanted.file(number)
    begun, place = wanted.folder / WORK / "writing" / file, wanted.folder / file
    drawing.write(drawing.draw(len(rows), first=rows.start, tell=share), begun, first=rows.start, total=wanted.n)
    size, digest = measured(begun)
    try:
        if begun.is_dir() or place.is_dir():  # a folder takes the place of nothing but an empty one
            _clear(place)
        os.replace(begun, place)
    except OSError as error:
        raise cannot_write(place, error) from error
    return Shard(file, rows.start, len(rows), size, digest)


def _note(wanted: Shards, number: int) -> pathlib.Path:
    """Return the file that says that a shard is done."""
    return wanted.folder / WORK / f"{number}.json"


def _record(wanted: Shards, number: int) -> Shard | None:
    """Return what is noted of a shard; None where it is not done."""
    path = _note(wanted, number)
    if not path.is_file():
        return None
    found, rows = from_data(Shard, read_json(path)), wanted.rows(number)
    here = (found.file, found.first, found.count) == (wanted.file(number), rows.start, len(rows))
    return found if here else None


def _wait(wanted: Shards, tell: Tell) -> None:
    """Wait until all shards are there; not at a barrier, which gives up where one process is much slower.

    Raises:
        InputError: If another process failed.
    """
    open_ones, pause = set(range(len(wanted))), 0.01
    while open_ones := {number for number in open_ones if not _note(wanted, number).is_file()}:
        if (wanted.folder / WORK / FAILED).exists():
            raise InputError("another process failed and said why; what is written stays, the same command goes on")
        tell.progress(1 - len(open_ones) / len(wanted), "waiting for other processes")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_SLEEP)

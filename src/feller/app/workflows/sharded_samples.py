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

from feller.app.reporter import SILENT, Tell
from feller.app.workflows.sampler import Drawing
from feller.app.workflows.shard_folder import BEFORE, FAILED, WORK, WRITING, held, note, noted, remove
from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.output_shards import (
    NUMBER_PLACEHOLDER,
    OutputShard,
    ShardedSamples,
    check_sample_counts,
    is_name_pattern,
    is_whole,
    open_shards,
    size_and_hash,
)
from feller.core.run_folder import Run
from feller.core.serialization import to_dict, write_json
from feller.data.modality import Modality
from feller.training.engine import get_engine

NAME = f"samples-{NUMBER_PLACEHOLDER}.npz"
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
) -> ShardedSamples:
    """Draw samples and write them in shards, with a manifest; what an earlier process finished is kept.

    Each process draws whole shards, those whose number it has modulo the number of processes, and none waits for
    another before the end.

    Args:
        run: Whose samples they are.
        drawing: What is asked of them.
        n: Number of samples in all.
        shard: In each file but the last.
        out: FOLDER for FOLDER/samples-00000.npz and so on, FOLDER/NAME.ENDING for FOLDER/NAME-00000.ENDING, or a path
            whose last part has {shard} where the number goes, without an ending for folders; by default `open_shards` in the
            run.
        overwrite: Replace the shards of other settings; those of the same are gone on with.
        tell: Hears how it goes.

    Returns:
        The shards; to other processes than the first before all may be written.

    Raises:
        UsageError: If the folder holds shards of other settings, or an argument is wrong.
        InputError: If the folder holds other things, another process writes there, or the disk is full.
    """
    check_sample_counts(n=n, shard=shard)
    here, modality = get_engine(), drawing.model.spec.modality
    folder, name = _place(run, out, modality)
    wanted = ShardedSamples(folder, n, shard, name, _settings(run, drawing))
    with _agreed(wanted, overwrite, tell), _told(folder):
        tell.task(f"sampling {len(wanted):,} shard{'s' * (len(wanted) != 1)}")
        _draw(wanted, drawing, range(here.rank, len(wanted), here.world_size), tell)
        if not here.is_main_process:
            return wanted
        _wait(wanted, tell)
        notes = (noted(wanted, number, WORK) for number in range(len(wanted)))
        done = replace(wanted, shards=tuple(shard for shard in notes if shard is not None))
        if not done.is_finished:
            raise InputError(f"{folder / WORK} was changed by others meanwhile", remedy="Run the same command again")
        done.write()
        shutil.rmtree(folder / WORK)
        tell.done()
    return done


def _place(run: Run, out: str | None, modality: Modality) -> tuple[pathlib.Path, str]:
    """Return folder and pattern of the names."""
    path = run.path / "shards" if out is None else pathlib.Path(out)
    if NUMBER_PLACEHOLDER in str(path):
        if path.name.count(NUMBER_PLACEHOLDER) != 1 or NUMBER_PLACEHOLDER in str(path.parent):
            raise UsageError(f"{NUMBER_PLACEHOLDER} once, in the last part", out, argument="out")
        folder, name = path.parent, path.name
    elif "{" in path.name or "}" in path.name:
        raise UsageError(f"{NUMBER_PLACEHOLDER} for the number of a shard", path.name, argument="out")
    elif path.suffix[1:2].isalpha() and not path.is_dir():
        folder, name = path.parent, f"{path.stem}-{NUMBER_PLACEHOLDER}{path.suffix}"
    else:
        folder, name = path, NAME
    modality.check_form(folder / name)
    if not is_name_pattern(name):
        raise UsageError("a shorter name of a file", name, argument="out")
    if out is None and folder.is_symlink():
        raise InputError(
            "is a link, which may lead anywhere", remedy="Name with --out where the shards go", file=folder
        )
    return folder, name


def _settings(run: Run, drawing: Drawing) -> dict[str, Any]:
    """Return what decides the samples, as JSON holds it: also what moves them by rounding."""
    parts = (run.aux_weights(name) for name in drawing.model.spec.modality.aux_networks)
    hashes = {path.name: size_and_hash(path)[1] for path in (run.model, run.ema_weights, *parts)}
    made = {"device": get_engine().device.type, "torch": torch.__version__}
    return json.loads(json.dumps({"run": hashes, **drawing.record, **made}))


@contextlib.contextmanager
def _agreed(wanted: ShardedSamples, overwrite: bool, tell: Tell) -> Iterator[None]:
    """Let the first process hold the folder, and all others know whether it could."""
    here, refused = get_engine(), None
    with contextlib.ExitStack() as stack:
        if here.is_main_process:
            try:
                stack.enter_context(held(wanted, overwrite, tell))
            except (InputError, UsageError) as error:
                refused = error
        told = here.broadcast_str("" if refused is None else f"{refused} ")  # an empty line means that all is well
        if refused is not None:
            raise refused
        if told:
            raise InputError(f"the first process ended: {told.strip()}")
        yield


@contextlib.contextmanager
def _told(folder: pathlib.Path) -> Iterator[None]:
    """Let the first process know if another fails; say how to go on if it is interrupted."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; shards that are written stay, and the same command goes on") from error
    except Exception:
        if not get_engine().is_main_process:
            with contextlib.suppress(OSError):  # what went wrong first is told
                (folder / FAILED).touch()
        raise


def _draw(wanted: ShardedSamples, drawing: Drawing, mine: range, tell: Tell) -> None:
    """Draw those of our shards that are not there."""
    manifest = open_shards(wanted.folder)
    for place, number in enumerate(mine):

        def share(done: float, place: int = place) -> None:
            tell.progress((place + done) / len(mine))

        known = manifest.shards[number] if manifest.is_finished else noted(wanted, number, BEFORE)
        if known is None or not is_whole(wanted.folder, known):
            if known is not None:
                tell.say(f"{wanted.folder / known.file} is damaged or gone, and drawn again")
            known = _written(wanted, drawing, number, share)
        write_json(note(wanted.folder / WORK, number), to_dict(known))
        share(1.0)


def _written(wanted: ShardedSamples, drawing: Drawing, number: int, share: Any) -> OutputShard:
    """Draw a shard and write it, whole or not at all."""
    rows, file = wanted.rows(number), wanted.file_name(number)
    begun, place = wanted.folder / WRITING / file, wanted.folder / file
    drawing.write(drawing.draw(len(rows), first=rows.start, tell=share), begun, first=rows.start, total=wanted.n)
    size, digest = size_and_hash(begun)
    try:
        if begun.is_dir():  # a folder takes the place of nothing but an empty one
            remove(place)
        os.replace(begun, place)
    except OSError as error:
        raise cannot_write(place, error) from error
    return OutputShard(file, rows.start, len(rows), size, digest)


def _wait(wanted: ShardedSamples, tell: Tell) -> None:
    """Wait until all shards are there; not at a barrier, which gives up where one process is much slower."""
    pause = 0.01
    for number in range(len(wanted)):
        while not note(wanted.folder / WORK, number).is_file():
            if (wanted.folder / FAILED).exists():
                raise InputError("another process failed and said why; what is written stays, the same command goes on")
            tell.progress(number / len(wanted), "waiting for other processes")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_SLEEP)

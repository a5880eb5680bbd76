"""Sampling into shards (files of a fixed number of samples) by any number of processes, resumable and reproducible."""

import contextlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch

from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.completer import Completer
from feller.app.workflows.sampler import Sampler
from feller.app.workflows.shard_folder import (
    EARLIER_FOLDER,
    FAILED,
    WORK,
    WRITING,
    lock_folder,
    note_path,
    read_note,
    remove,
)
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
"""Maximum time in seconds between two checks of whether other processes have finished."""


def write_sharded_samples(
    run: Run,
    sampler: Sampler | Completer,
    n: int,
    shard_size: int,
    *,
    out: str | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> ShardedSamples:
    """Sample into shards and write a manifest; finished shards of an earlier, interrupted command are kept.

    Process r of R processes draws the shards whose index modulo R is r. No process waits for other processes before the
    end.

    Args:
        run: Run of the model.
        sampler: Sampler with its settings.
        n: Total number of samples.
        shard_size: Number of samples per shard; the last shard may have fewer.
        out: Output path: FOLDER writes FOLDER/samples-00000.npz, ...; FOLDER/NAME.EXT writes FOLDER/NAME-00000.EXT,
            ...; {shard} in the last part of the path is replaced by the shard number. If {shard} is in a name without
            an extension, each shard is a folder. None for `shards` in the run.
        overwrite: True to replace shards that have other settings; with the same settings, sampling is resumed.
        reporter: Progress and log output.

    Returns:
        The shards. Only the process with rank 0 waits until all shards are written.

    Raises:
        UsageError: If the folder contains shards with other settings, or an argument is wrong.
        InputError: If the folder contains other files, another process writes to it, or the disk is full.
    """
    check_sample_counts(n=n, shard=shard_size)
    engine, modality = get_engine(), sampler.model.spec.modality
    folder, name = _output_pattern(run, out, modality)
    target = ShardedSamples(folder, n, shard_size, name, _settings(run, sampler))
    with _lock_on_first_process(target, overwrite, reporter), _signal_failure(folder):
        reporter.start(f"sampling {len(target):,} shard{'s' * (len(target) != 1)}")
        _draw(target, sampler, range(engine.rank, len(target), engine.world_size), reporter)
        if not engine.is_main_process:
            return target
        _wait(target, reporter)
        notes = (read_note(target, number, WORK) for number in range(len(target)))
        finished = replace(target, shards=tuple(shard for shard in notes if shard is not None))
        if not finished.is_finished:
            raise InputError(f"{folder / WORK} was changed by another process", remedy="Run the same command again")
        finished.write()
        shutil.rmtree(folder / WORK)
        reporter.finish()
    return finished


def _output_pattern(run: Run, out: str | None, modality: Modality) -> tuple[pathlib.Path, str]:
    path = run.path / "shards" if out is None else pathlib.Path(out)
    if NUMBER_PLACEHOLDER in str(path):
        if path.name.count(NUMBER_PLACEHOLDER) != 1 or NUMBER_PLACEHOLDER in str(path.parent):
            raise UsageError(f"{NUMBER_PLACEHOLDER} exactly once, in the file name", out, argument="out")
        folder, name = path.parent, path.name
    elif "{" in path.name or "}" in path.name:
        raise UsageError(
            f"no braces in the file name except {NUMBER_PLACEHOLDER}, the shard number", path.name, argument="out"
        )
    elif path.suffix[1:2].isalpha() and not path.is_dir():
        folder, name = path.parent, f"{path.stem}-{NUMBER_PLACEHOLDER}{path.suffix}"
    else:
        folder, name = path, NAME
    modality.check_form(folder / name)
    if not is_name_pattern(name):
        raise UsageError("a shorter file name, of at most 255 bytes with the shard number", name, argument="out")
    if out is None and folder.is_symlink():
        raise InputError("is a symbolic link", remedy="Choose the folder of the shards with --out", file=folder)
    return folder, name


def _settings(run: Run, sampler: Sampler | Completer) -> dict[str, Any]:
    """Return, as JSON data, the settings that determine the samples, including what changes their rounding."""
    aux_files = (run.aux_weights(name) for name in sampler.model.spec.modality.aux_networks)
    hashes = {path.name: size_and_hash(path)[1] for path in (run.model, run.ema_weights, *aux_files)}
    environment = {"device": get_engine().device.type, "torch": torch.__version__}
    return json.loads(json.dumps({"run": hashes, **sampler.settings, **environment}))


@contextlib.contextmanager
def _lock_on_first_process(target: ShardedSamples, overwrite: bool, reporter: Reporter) -> Iterator[None]:
    """Lock the output folder in the main process; if this fails, raise the error in all processes."""
    engine, lock_error = get_engine(), None
    with contextlib.ExitStack() as stack:
        if engine.is_main_process:
            try:
                stack.enter_context(lock_folder(target, overwrite, reporter))
            except (InputError, UsageError) as error:
                lock_error = error
        message = engine.broadcast_str("" if lock_error is None else f"{lock_error} ")  # empty without an error
        if lock_error is not None:
            raise lock_error
        if message:
            raise InputError(f"the main process failed: {message.strip()}")
        yield


@contextlib.contextmanager
def _signal_failure(folder: pathlib.Path) -> Iterator[None]:
    """Context manager that signals a failure to the main process, and after an interrupt states how to resume."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; written shards are kept. Run the same command to resume") from error
    except Exception:
        if not get_engine().is_main_process:
            with contextlib.suppress(OSError):  # the original error is more useful
                (folder / FAILED).touch()
        raise


def _draw(target: ShardedSamples, sampler: Sampler | Completer, shard_numbers: range, reporter: Reporter) -> None:
    """Draw the shards of this process that are missing or damaged."""
    manifest = open_shards(target.folder)
    for index, number in enumerate(shard_numbers):

        def on_progress(fraction: float, index: int = index) -> None:
            reporter.progress((index + fraction) / len(shard_numbers))

        shard = manifest.shards[number] if manifest.is_finished else read_note(target, number, EARLIER_FOLDER)
        if shard is None or not is_whole(target.folder, shard):
            if shard is not None:
                reporter.log(f"{target.folder / shard.file} is damaged or missing; sampling it again")
            shard = _write_shard(target, sampler, number, on_progress)
        write_json(note_path(target.folder / WORK, number), to_dict(shard))
        on_progress(1.0)


def _write_shard(target: ShardedSamples, sampler: Sampler | Completer, number: int, on_progress: Any) -> OutputShard:
    """Draw the samples of a shard and write it atomically."""
    rows, file = target.rows(number), target.file_name(number)
    temp_path, path = target.folder / WRITING / file, target.folder / file
    samples = sampler.draw(len(rows), first=rows.start, total=target.n, on_progress=on_progress)
    sampler.write(cast(Any, samples), temp_path, first=rows.start, total=target.n)
    size, digest = size_and_hash(temp_path)
    try:
        if temp_path.is_dir():  # os.replace cannot replace a non-empty folder
            remove(path)
        os.replace(temp_path, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    return OutputShard(file, rows.start, len(rows), size, digest)


def _wait(target: ShardedSamples, reporter: Reporter) -> None:
    """Wait until all processes have written their shards; a barrier would time out if one process is much slower."""
    pause = 0.01
    for number in range(len(target)):
        while not note_path(target.folder / WORK, number).is_file():
            if (target.folder / FAILED).exists():
                raise InputError(
                    "another process failed; see its message. Written shards are kept; run the same command to resume"
                )
            reporter.progress(number / len(target), "waiting for other processes")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_SLEEP)

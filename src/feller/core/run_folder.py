"""Run folder: the files of one fitted model, which commands read and write."""

import contextlib
import contextvars
import errno
import fcntl
import html
import os
import pathlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from feller import __version__
from feller.core.errors import InputError, UsageError, did_you_mean, error_context, found_instead
from feller.core.migrations import Older, format_of, migrate
from feller.core.serialization import error_path, from_dict, read_json, write_json

T = TypeVar("T")
AUX_NETWORKS = ("tokenizer", "vectors", "durations", "rhythm", "autoencoder")
"""File stems of auxiliary networks that encode, decode or align the data."""
MANAGED_FILES = (
    *("recipe.json", "model.json", "state.json", "report.json", "report.html", "metrics.jsonl", "preview.png", "lock"),
    *("ledger.json", "exposure.safetensors"),
    *("export.pt2", "export.pt2.json", "export.onnx", "export.onnx.json", "export.json"),
    *("export.decoder.pt2", "export.decoder.onnx"),
    *("paths.npz", "paths.csv", "pairs.npz", "pairs.csv", "counts.npz", "counts.csv"),
    *(
        f"{name}.safetensors"
        for name in ("weights", "average", "state", "auxiliary", "judge", "detector", "base", *AUX_NETWORKS)
    ),
)
"""Names of the files of a run; no other file in the run folder is ever removed."""


IGNORED_FILES = ("lock", "spent", "data.csv", "data.npz", "data.jsonl", "tables", "populations", "schema.json")
"""Names of files that a free folder may contain; a folder with any other file counts as occupied."""
INCOMPLETE_RUN_REMEDY = "If the run folder is incomplete, copy all of it or fit again"
"""Remedy in the error message for a missing run file."""
MOST_NAMED = 20
"""Maximum number of runs listed in an error message."""
CONTENT_SECURITY_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""Content security policy of reports: no scripts or external resources, even if names in the data contain HTML."""
LOCK_ATTEMPTS, LOCK_RETRY_SECONDS = 3, 0.02
"""Number of attempts to take a lock, and seconds between them."""
_HELD: contextvars.ContextVar[frozenset[pathlib.Path]] = contextvars.ContextVar("held", default=frozenset())
"""Folders that the current context has locked."""


class _File:
    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: "Run", kind: type) -> pathlib.Path:
        return run.path / self._name


@dataclass(frozen=True)
class Run:
    """Folder of a run, with one fitted model and its results; the properties are the paths of its files."""

    path: pathlib.Path
    recipe = _File("recipe.json")
    """Fit options, recipe and provenance."""
    model = _File("model.json")
    """Model configuration, from which the model is rebuilt."""
    weights = _File("weights.safetensors")
    """Network weights at the last step."""
    state = _File("state.safetensors")
    """Training state from which a fit resumes."""
    aux_state = _File("auxiliary.safetensors")
    """Training state of an auxiliary network whose training is not finished."""
    progress = _File("state.json")
    """Training counters, such as steps and seconds."""
    judge = _File("judge.safetensors")
    """Weights of the network used to evaluate the samples."""
    detector = _File("detector.safetensors")
    """Weights of the discriminator between generated and recorded audio."""
    base = _File("base.safetensors")
    """Initial weights of a fine-tuning run."""
    base_samples = _File("drawn")
    """Samples of the base model drawn by `tune`, reused by later fine-tuning of the same model."""
    metrics = _File("metrics.jsonl")
    """Training metrics such as the loss, one JSON object per line."""
    ledger = _File("ledger.json")
    """Privacy ledger of a private run."""
    leakage = _File("exposure.safetensors")
    """Fisher information loss of the tracked rows of a private training run; confidential to the data owner."""
    preview = _File("preview.png")
    """Image of a few samples, updated during training."""
    samples = _File("samples")
    """Default folder of samples."""

    @property
    def ema_weights(self) -> pathlib.Path:
        """File of the EMA weights, used for sampling; in an exported folder this is `model.safetensors`."""
        run_weights, exported_weights = self.path / "average.safetensors", self.path / "model.safetensors"
        return exported_weights if exported_weights.is_file() and not run_weights.exists() else run_weights

    def aux_weights(self, name: str) -> pathlib.Path:
        """Return the path of the weights of the auxiliary network `name`, one of `AUX_NETWORKS`."""
        return self.path / f"{name}.safetensors"

    @property
    def previous_ledgers(self) -> "tuple[Run, ...]":
        """Archived privacy ledgers of earlier runs in this folder, oldest first, each with its recipe if available."""
        folders = [path for path in (self.path / "spent").glob("*") if path.name.isdecimal() and path.is_dir()]
        return tuple(map(Run, sorted(folders, key=lambda path: int(path.name))))

    def new_previous_ledger(self) -> "Run":
        """Create the folder for the next archived ledger, and return it as a run."""
        last_number = max((int(run.path.name) for run in self.previous_ledgers), default=0)
        folder = self.path / "spent" / str(last_number + 1)
        folder.mkdir(parents=True)
        return Run(folder)

    def output_path(self, out: str | None) -> pathlib.Path:
        """Return the output folder of samples: `out`, or `samples` in the run folder if `out` is None.

        Raises:
            InputError: If the default folder is a symbolic link, with which an untrusted run could redirect the output.
        """
        if out:
            return pathlib.Path(out)
        if self.samples.is_symlink():
            raise InputError(f"{self.samples} is a symbolic link", remedy="Remove the link, or choose --out")
        return self.samples

    def _repr_html_(self) -> str:
        """Return the report as HTML for notebooks, in a sandboxed frame."""
        return report_iframe(self.path / "report.html", str(self.path))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other writers within the context; the system releases the lock of a killed process.

        Raises:
            InputError: If another process holds the lock, or the lock file cannot be opened.
        """
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            not_permitted = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)  # the file itself is fine
            remedy = "Copy the run to a writable folder, or choose --out" if not_permitted else "Remove it"
            lock_path = self.path / "lock"
            raise InputError(f"cannot be locked ({error.strerror})", remedy=remedy, file=lock_path) from error
        with os.fdopen(handle, "r+") as file:
            try:
                _flock_with_retry(file.fileno())
            except BlockingIOError as error:
                raise InputError(
                    f"another process is writing to {self.path}",
                    remedy="Wait for this process, or choose another folder",
                ) from error
            with error_path(self.path / "lock"):
                file.truncate(0)
                file.write(f"{os.getpid()}\n")
                file.flush()
            for name in MANAGED_FILES:  # temporary files of a killed process
                for path in self.path.glob(f".{name}.????????"):
                    path.unlink(missing_ok=True)
            token = _HELD.set(_HELD.get() | {self.path.resolve()})
            try:
                yield
            finally:
                _HELD.reset(token)

    @property
    def is_locked(self) -> bool:
        """True if a process holds the lock; the check writes no file."""
        try:
            handle = os.open(self.path / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        with os.fdopen(handle) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    @contextlib.contextmanager
    def ensure_lock(self) -> Iterator[None]:
        """Take the lock unless the caller already holds it, for example a fit that evaluates its model.

        Raises:
            InputError: If another process holds the lock.
        """
        with contextlib.nullcontext() if self.path.resolve() in _HELD.get() else self.lock():
            yield

    @contextlib.contextmanager
    def acquire(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """Lock the folder for a fit; unless `resume` is set, archive the ledger and remove the files of an older run.

        Raises:
            InputError: If another process holds the lock.
            UsageError: If the folder is occupied and neither `resume` nor `overwrite` is set.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            if not resume:
                if not overwrite and is_occupied(self.path):
                    raise UsageError(_exists(self.path))
                if self.ledger.is_file():  # spent budget stays recorded
                    archive = self.new_previous_ledger()
                    os.replace(self.ledger, archive.ledger)
                    if self.recipe.is_file():
                        os.replace(self.recipe, archive.recipe)
                managed = [self.path / name for name in MANAGED_FILES if name != "lock"]
                unfinished = [path for path in self.path.glob(".*") if _is_half(path.name)]
                for path in (*managed, *unfinished, *self.path.glob("report-*.html"), *self.path.glob("report-*.json")):
                    path.unlink(missing_ok=True)
            try:
                yield
            except Exception:
                if not resume:
                    self._clear_unlearned()
                raise

    def _clear_unlearned(self) -> None:
        """Remove the files of a failed fit from the folder, unless it has weights or a privacy ledger."""
        if self.ledger.is_file() or any(self.path.glob("*.safetensors")):
            return
        for name in MANAGED_FILES:
            if name != "lock":
                (self.path / name).unlink(missing_ok=True)

    def write_record(self, path: pathlib.Path, content: dict[str, Any]) -> None:
        """Write a JSON file of the run, with format and version numbers."""
        write_json(path, {"format": format_of(content), "version": __version__, **content})

    def read_record(self, path: pathlib.Path) -> dict[str, Any]:
        """Read a JSON file of the run, migrated to the current format.

        Raises:
            InputError: If the file is missing, damaged or of a newer format.
        """
        content = read_json(path, INCOMPLETE_RUN_REMEDY)
        if not isinstance(content, dict):
            raise InputError("is not a run file: expected a JSON object with an integer `format`", file=path)
        with error_context(path):
            return migrate(path.name, content)

    def read_field(self, path: pathlib.Path, *names: str) -> Any:
        """Return a nested field of a JSON file of the run, given its keys from the outermost to the innermost.

        Raises:
            InputError: If `read_record` fails, or the file lacks the field.
        """
        value: Any = self.read_record(path)
        for name in names:
            name = value.key_of(name) if isinstance(value, Older) else name
            if not isinstance(value, dict) or name not in value:
                message = f"lacks the field {'.'.join(names)!r}: it is damaged, or not from a fit"
                raise InputError(message, remedy=INCOMPLETE_RUN_REMEDY, file=path)
            value = value[name]
        return value

    def read_as(self, kind: type[T], path: pathlib.Path, *names: str) -> T:
        """Return a nested field of a JSON file of the run as an instance of a dataclass.

        Raises:
            InputError: If `read_field` fails, or a value is unknown or of the wrong type.
        """
        value = self.read_field(path, *names)
        with error_context(path, place=".".join(names)):
            return from_dict(kind, value)

    def find(self, kind: type[T], path: pathlib.Path, name: str) -> T | None:
        """Return a field of a JSON file of the run as an instance of a dataclass; None if the file lacks the field.

        Raises:
            InputError: If `read_record` fails, or a value is unknown or of the wrong type.
        """
        return None if self.read_record(path).get(name) is None else self.read_as(kind, path, name)


def report_iframe(page: pathlib.Path, run: str) -> str:
    """Return HTML that embeds the report file `page` in a sandboxed frame, without scripts or external resources.

    `run` is the name of the run, shown above the report. If there is no report yet, the HTML says so.
    """
    run_name = html.escape(run)
    if not page.is_file() or page.is_symlink():
        return f"<p>run <code>{run_name}</code>, without a report yet</p>"
    # the page is untrusted
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
    content = html.escape(policy + page.read_text(encoding="utf-8", errors="replace"), quote=True)
    frame = f'<iframe sandbox srcdoc="{content}" style="width: 100%; height: 40em; border: 1px solid #8888"></iframe>'
    return f"<p>run <code>{run_name}</code></p>{frame}"


def _flock_with_retry(handle: int) -> None:
    """Take a lock, retrying because `is_locked` holds it for a moment."""
    for attempts_left in reversed(range(LOCK_ATTEMPTS)):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not attempts_left:
                raise
            time.sleep(LOCK_RETRY_SECONDS)


def is_occupied(folder: pathlib.Path) -> bool:
    """Return True if a path is a file, or a folder with files other than `IGNORED_FILES`."""
    return folder.exists() and (not folder.is_dir() or any(path.name not in IGNORED_FILES for path in folder.iterdir()))


def check_folder_path(argument: str, path: object) -> None:
    """Check that a value is a path, the location of a run folder.

    Raises:
        UsageError: If the value is neither a string nor a path object.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(argument=argument, expected="the path of a run folder", found=found_instead(path))


def open_run(folder: str | pathlib.Path | None, home: pathlib.Path = pathlib.Path("runs")) -> Run:
    """Open the run in a folder, by default the newest run under `home`.

    Raises:
        UsageError: If the folder is not a path.
        InputError: If the folder holds no run.
    """
    if folder is None:
        runs_at_home = [path.parent for path in home.glob("*/model.json")] if home.is_dir() else []
        if not runs_at_home:
            raise InputError(f"a run under {home}/", "none", "Create a run with: feller fit DATA")
        return Run(max(runs_at_home, key=lambda path: (path / "model.json").stat().st_mtime))
    check_folder_path("folder", folder)
    path = pathlib.Path(folder)
    if (path / "model.json").is_file():
        return Run(path)
    if path.is_dir():
        nested_runs = _runs_in(path)
        listed = ", ".join([*nested_runs[:MOST_NAMED], *["..."][: len(nested_runs) - MOST_NAMED]])
        hint = f"Choose a run in it: {listed}" if nested_runs else None
        raise InputError("is not a run folder: model.json is missing", remedy=hint, file=path)
    sibling_runs = _runs_in(path.parent)
    hint = did_you_mean(str(path), sibling_runs) if sibling_runs else ""
    raise InputError("a run folder", "none", f"{hint[:1].upper()}{hint[1:]}" or None, file=path)


def _runs_in(folder: pathlib.Path) -> list[str]:
    return sorted(str(path) for path in folder.glob("*") if (path / "model.json").is_file())


def to_run(run: Run | str | os.PathLike[str]) -> Run:
    """Return a `Run`, given a run or the path of its folder.

    Raises:
        UsageError: If the argument is neither a run nor a path.
        InputError: If the folder holds no run.
    """
    if isinstance(run, Run):
        return run
    check_folder_path("run", run)
    return open_run(pathlib.Path(run))


def resumable_run(out: str | None) -> Run:
    """Return the run in the folder `out`, which a fit will resume; by default the newest run.

    Raises:
        InputError: If there is no run to resume.
    """
    if out is None:
        return open_run(None)
    run = Run(pathlib.Path(out))
    if run.path.exists() and not run.path.is_dir():
        raise InputError("is a file; --out expects a folder", file=run.path)
    if not run.model.is_file():
        raise InputError("a run to resume", "none", "Omit --resume to start a run", file=run.path)
    return run


def target_run(out: str | None, data: str, *, resume: bool, overwrite: bool) -> Run:
    """Return the run that a fit will create or resume; this function deletes no files.

    Args:
        out: Run folder. None for a new folder in `runs`, named after the data; with `resume`, None for the newest run.
        data: Data source, as a path or `example:NAME`.
        resume: Resume the run.
        overwrite: Allow a folder with an older run, which the fit replaces.

    Raises:
        UsageError: If the folder is occupied and neither `resume` nor `overwrite` is set, or both are set.
        InputError: If there is no run to resume, or `out` is a file.
    """
    if resume and overwrite:
        raise UsageError("--resume or --overwrite", "both", "Choose one", argument="resume")
    if resume:
        return resumable_run(out)
    if out is None:
        stem = pathlib.Path(
            data.removeprefix("example:").replace("/", "-") if data.startswith("example:") else data
        ).stem
        stem = "".join(character if character.isalnum() or character in "-_" else "-" for character in stem) or "data"
        number = 1
        while is_occupied(path := pathlib.Path("runs") / f"{stem}-{number}"):
            number += 1
        return Run(path)
    run = Run(pathlib.Path(out))
    if run.path.exists() and not run.path.is_dir():
        raise InputError("is a file; --out expects a folder", file=run.path)
    if is_occupied(run.path):
        if not overwrite:
            raise UsageError(_exists(run.path))
        try:
            if not _is_begun(run.path):
                run.read_record(run.model)
                run.read_record(run.recipe)
        except InputError as error:
            raise UsageError(
                "is not a feller run, so --overwrite does not replace it", remedy="Choose another folder", file=run.path
            ) from error
    return run


def _is_begun(folder: pathlib.Path) -> bool:
    """Return True if a folder holds the lock and otherwise only files that a killed fit may leave behind."""
    names = {path.name for path in folder.iterdir()}
    return "lock" in names and all(name in MANAGED_FILES or name in IGNORED_FILES or _is_half(name) for name in names)


def _is_half(name: str) -> bool:
    """Return True if a name is that of an unfinished temporary copy of a managed file (see `replace_file`)."""
    return name.startswith(".") and any(name.startswith(f".{file}.") for file in (*MANAGED_FILES, *IGNORED_FILES))


def _exists(path: pathlib.Path) -> str:
    remedies = "continue it with --resume, or replace it with --overwrite"
    return f"{path} exists: {remedies}; in Python, resume=True or overwrite=True"

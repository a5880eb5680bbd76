"""Sampling for the web page, and conversion of samples to images, tables and text for display."""

import csv
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from PIL import Image

from feller.app.config import SampleConfig
from feller.app.modalities.registration import registration_of
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.webui.condition_controls import conditions_from, guidance_scales_from
from feller.app.webui.loaded_run import LoadedRun, display_of
from feller.app.webui.tab import Answers, CaptionedImage, OutputKind, PageContext, TabResult, TextTable
from feller.app.workflows.sample import sample
from feller.data.files.delimited import dialect_of
from feller.data.modality import Dataset, Modality
from feller.data.text.modality import Text

ENDINGS = (".cif", ".xyz", ".pdb", ".csv", ".txt", ".npz")
"""Suffixes of the file formats offered for download, in order of preference."""
MAX_SHOWN = 100
"""Maximum number of rows or images shown; the download file contains all samples."""
MIN_PIXELS = 480
"""Approximate length in pixels to which the longer side of a small image is magnified."""
NAME = "samples"
OUTPUT_KINDS = {"pictures": OutputKind.PICTURES, "table": OutputKind.TABLE, "words": OutputKind.WORDS}


def sample_path(room: pathlib.Path, modality: Modality) -> pathlib.Path:
    """Return the path of the sample file in the folder `room`; its suffix depends on the modality."""
    endings = (".txt",) if display_of(modality).form == "words" else ENDINGS
    return room / f"{NAME}{next(ending for ending in endings if ending in modality.writers)}"


def kinds_of(run: LoadedRun) -> tuple[OutputKind, ...]:
    """Return the kinds of output, such as images or tables, in which the samples of a run are shown."""
    return OUTPUT_KINDS[run.display.form], OutputKind.FILES


def draw(
    run: LoadedRun, page: PageContext, answers: Answers, reporter: Reporter, **more: Any
) -> tuple[Dataset, pathlib.Path]:
    """Draw samples with the conditions, guidance and seed of a request; return the samples and their file.

    The file is in a new folder.

    Args:
        run: Run to sample from.
        page: Context of the page, which makes the folder.
        answers: Values of the controls; must contain `n` and `seed`.
        reporter: Progress and log output.
        more: Further options of `SampleConfig` by name; `given` and `guidance` replace those of the request. In
            addition `weights`, the file with the weights, and `on_step`, a function of (time, states) that is called
            after each step of the sampler.
    """
    modality = cast(Modality, run.modality)
    if "given" not in more:
        more |= {"given": conditions_from(answers, modality), "guidance": guidance_scales_from(answers)}
    out = str(sample_path(page.new_result_folder(), modality))
    sampler_arguments = {name: more.pop(name) for name in ("weights", "on_step") if name in more}
    result = sample(
        run.run,
        config_of(SampleConfig, n=answers["n"], out=out, seed=answers["seed"], **more),
        reporter=reporter,
        **sampler_arguments,
    )
    return result.dataset, result.path


def tab_result(run: LoadedRun, samples: Dataset, file: pathlib.Path, *, caption: str = "Samples") -> TabResult:
    """Return the outputs of a tab that shows samples and offers their file for download.

    `caption` is the caption of the image, if the samples are shown as an image.
    """
    form = run.display.form
    cut = len(samples) > MAX_SHOWN and (form == "table" or (form == "pictures" and _is_one_image_each(samples)))
    message = f"the first {MAX_SHOWN} of {len(samples):,} are shown; all are in {file.name}" if cut else ""
    if (text := run.modality_as(Text)) is not None:
        return TabResult(message=message, words=as_words(text.texts(samples.values)), files=(file,))
    if form == "table":
        return TabResult(message=message, table=read_rows(file), files=(file,))
    return TabResult(message=message, pictures=(draw_picture(samples, file.parent, caption),), files=(file,))


def _is_one_image_each(samples: Dataset) -> bool:
    return getattr(samples.values, "ndim", 0) != 2


def _first(samples: Dataset) -> Dataset:
    return samples.subset(torch.arange(min(len(samples), MAX_SHOWN))) if _is_one_image_each(samples) else samples


def draw_picture(samples: Dataset, room: pathlib.Path, caption: str) -> CaptionedImage:
    """Draw samples as a single image file in the folder `room`."""
    some = _first(samples)
    return save_picture(some.modality.show(some.values, some.given), room, caption)


def draw_picture_pair(
    sides: tuple[Dataset, Dataset], room: pathlib.Path, captions: Sequence[str], background: Dataset | None = None
) -> tuple[CaptionedImage, ...]:
    """Draw two sets of samples as one image file each, at the same scale if possible.

    The points of `background`, if given, are drawn behind both sets.
    """
    one, other = (side.modality for side in sides)
    if one.figure_key != other.figure_key:
        return tuple(draw_picture(some, room, caption) for some, caption in zip(sides, captions, strict=True))
    shown = registration_of(one).beside(_first(sides[0]), _first(sides[1]), background)
    return tuple(map(save_picture, shown, (room, room), captions))


def save_picture(image: Image.Image, room: pathlib.Path, caption: str) -> CaptionedImage:
    """Write an image to a new file in the folder `room`."""
    path = room / f"picture-{len(list(room.glob('picture-*.png')))}.png"
    enlarge(image).save(path)
    return CaptionedImage(caption, path)


def enlarge(image: Image.Image) -> Image.Image:
    """Magnify a small image by an integer factor without interpolation."""
    factor = max(1, MIN_PIXELS // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def as_words(texts: Sequence[str]) -> str:
    """Join texts into a single text, each under a numbered heading; if there is only one text, return it unchanged."""
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(f"--- {i}\n{text}" for i, text in enumerate(texts, 1))


def read_rows(file: pathlib.Path) -> TextTable:
    """Read the first rows of a table file, as text."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=dialect_of(file).separator)
        names = tuple(next(reader))
        return TextTable(names, tuple(tuple(row) for row, _ in zip(reader, range(MAX_SHOWN), strict=False)))


def copy_preview(run: LoadedRun, room: pathlib.Path) -> tuple[CaptionedImage, ...]:
    """Return a copy of the preview of training in the folder `room`, since training may replace the file any time."""
    there = run.run.preview
    if not there.is_file() or there.is_symlink():
        return ()
    copy = room / f"preview-{there.stat().st_mtime_ns}.png"
    if not copy.is_file():
        for old in room.glob("preview-*.png"):
            old.unlink(missing_ok=True)
        shutil.copyfile(there, copy)
    return (CaptionedImage("Preview", copy),)


def metric_table(numbers: Mapping[str, Any], names: Sequence[str] = (), title: str = "") -> TextTable:
    """Return a table with the value, reference, verdict and explanation of each metric.

    Args:
        numbers: Metrics by name, as in a report.
        names: Names of the metrics to show; if empty, those of the main table of a report, that is, all except
            facts, details, references and texts.
        title: Title of the table.
    """
    from feller.evaluation.metrics import explanation, main_metrics, metric, reference_value, replace_by_labels
    from feller.evaluation.report.verdict import metric_verdict  # take long to load

    rows = []
    for name in names or main_metrics(numbers):
        info, beside = metric(name, numbers), reference_value(name, numbers)
        reference = "" if beside is None or beside[1] is None else f"{info.text(beside[1])}, {beside[0]}"
        meaning = replace_by_labels(explanation(name, numbers), numbers)
        rows.append((info.label, info.text(numbers[name]), reference, metric_verdict(name, numbers), meaning))
    return TextTable(("metric", "value", "reference", "verdict", "meaning"), tuple(rows), title)

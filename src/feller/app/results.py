"""Results of the Python functions: fitted run, report, and steered samples."""

import base64
import functools
import html.parser
import io
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from feller.app.config import SampleConfig
from feller.app.options import accepts_options, config_of
from feller.app.terminal import progress_reporter
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.run_config import is_described, read_fit_record
from feller.app.workflows.run_status import read_report_summary
from feller.core.output_shards import ShardedSamples
from feller.core.run_folder import Run, report_iframe
from feller.core.serialization import read_json
from feller.data.loading.file_formats import TABLES
from feller.data.loading.in_memory import IN_MEMORY_PREFIX, DataSource
from feller.data.modality import Dataset
from feller.data.points.euclidean_points import Points
from feller.evaluation.metrics import main_metrics, metric, reference_value
from feller.evaluation.number_format import is_number
from feller.evaluation.report.loss_curve import finite_losses
from feller.models.model import Model, Samples, load_model
from feller.privacy.accounting.ledger import Ledger
from feller.training.callbacks import read_metrics

if TYPE_CHECKING:
    from feller.app.workflows.column_prediction import ColumnPrediction

FRAME_PREFIX = f"{IN_MEMORY_PREFIX}DataFrame"
"""Prefix of the data name in the record of a run that was trained on a data frame and stores no copy of it."""
BARS = 12
"""Maximum number of metrics in the bar chart of a report."""


class _PictureParser(html.parser.HTMLParser):
    """HTML parser that collects the embedded images of a report page and their captions."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[tuple[str, Image.Image]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        media_type, _, encoded = attributes.get("src", "").partition(";base64,")
        if tag == "img" and media_type.startswith("data:image/"):
            image = Image.open(io.BytesIO(base64.b64decode(encoded)), formats=("PNG", "JPEG", "WEBP", "GIF"))
            self.pictures.append((attributes.get("alt", "").removeprefix("Picture: "), image.convert("RGB")))


@dataclass(frozen=True, repr=False)
class Report:
    """Report of a run: its metrics, HTML page and figures."""

    folder: pathlib.Path
    """Run folder."""
    metrics: dict[str, float | int | str | None]
    """Metrics by name, as in the output of `--json`; the value of a metric that could not be measured is None."""
    name: str = "report"
    """Name of the report files without extension; empty if no files were written."""

    @property
    def path(self) -> pathlib.Path | None:
        """Path of the HTML page; None if no page was written."""
        page = self.folder / f"{self.name}.html"
        return page if page.is_file() and not page.is_symlink() else None

    @property
    def verdict(self) -> str:
        """Verdict of the report, such as "Good"; empty if no report was written."""
        file = self.folder / f"{self.name}.json"
        return str(read_json(file, "Evaluate again").get("verdict", "")) if file.is_file() else ""

    def figures(self) -> list[Figure]:
        """Return matplotlib figures: metrics with reference values, the loss curve, and the images of the page."""
        figures = [figure for figure in (self._bars(), self._loss()) if figure is not None]
        if self.path is not None:
            parser = _PictureParser()
            parser.feed(self.path.read_text(encoding="utf-8"))
            for caption, image in parser.pictures:
                figure = Figure(figsize=(6.0, 0.5 + 6.0 * image.height / image.width))
                axes = figure.add_subplot()
                axes.imshow(image)
                axes.set_axis_off()
                axes.set_title(caption, fontsize=8, wrap=True)
                figures.append(figure)
        return figures

    def _bars(self) -> Figure | None:
        """Plot the main metrics next to their reference values: fractions on one axis, each other metric on its own."""
        pairs: dict[str, tuple[float, float]] = {}
        for name in main_metrics(self.metrics):
            reference, value = reference_value(name, self.metrics), self.metrics[name]
            if reference is not None and is_number(value) and is_number(reference[1]):
                pairs[name] = (float(value), float(reference[1]))
        names = [*pairs][:BARS]
        fractions = [name for name in names if metric(name, self.metrics).is_percent]
        panels = [*([fractions] if fractions else []), *([name] for name in names if name not in fractions)]
        if not panels:
            return None
        heights = [len(panel) + 0.9 for panel in panels]
        figure = Figure(figsize=(7.0, 0.7 + 0.42 * sum(heights)), layout="constrained")
        for panel, axes in zip(
            panels, figure.subplots(len(panels), height_ratios=heights, squeeze=False)[:, 0], strict=True
        ):
            self._panel(axes, panel, pairs, is_fraction=panel is fractions)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2)
        return figure

    def _panel(self, axes: Axes, names: list[str], pairs: dict[str, tuple[float, float]], *, is_fraction: bool) -> None:
        """Draw metrics as bars on one axis that starts at zero, with the value at each bar."""
        values = [value for name in names for value in pairs[name]]
        max_value = max(1e-12, *values)
        spans_unit = is_fraction and max_value > 0.4
        for k, name in enumerate(names):
            spec, reference = metric(name, self.metrics), reference_value(name, self.metrics)
            reference_text = f", {reference[0]}" if reference else ""
            bars = (("measured", "C0", k - 0.2, ""), ("reference", "C1", k + 0.2, reference_text))
            for (label, colour, position, suffix), value in zip(bars, pairs[name], strict=True):
                axes.barh(position, value, 0.38, color=colour, label=None if k else label)
                anchor, text = (max(value, 0.0), position), f"{spec.text(value)}{suffix}"
                axes.annotate(text, anchor, (3, 0), textcoords="offset points", fontsize=7, va="center")
        labels = [
            f"{spec.label}{f', {spec.unit}' if spec.unit else ''}" for spec in (metric(n, self.metrics) for n in names)
        ]
        axes.set_yticks(range(len(names)), [textwrap.fill(label, 38) for label in labels], fontsize=8)
        axes.set_xlim(min(0.0, *values), 1.55 * (1.0 if spans_unit else max_value))
        axes.tick_params(axis="x", labelsize=7)
        if spans_unit:
            axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        if is_fraction:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis()

    def _loss(self) -> Figure | None:
        file = Run(self.folder).metrics
        steps, loss = finite_losses(read_metrics(file) if self.name == "report" and file.is_file() else ())
        if len(steps) < 2:
            return None
        figure = Figure(figsize=(6.0, 3.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(steps, loss, linewidth=0.8)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        return figure

    def __repr__(self) -> str:
        """Return the run folder and the verdict."""
        summary = self.verdict or f"no page, {len(self.metrics)} metrics; feller.evaluate(run) writes one"
        return f"<Report of {self.folder}: {summary}>"

    def _repr_html_(self) -> str:
        """Return HTML that shows the page in a notebook: an iframe without scripts or external resources."""
        return report_iframe(self.folder / f"{self.name}.html", str(self.folder))


@dataclass(frozen=True)
class FittedRun(os.PathLike[str]):
    """Fitted run: a run folder with its model, report and samples.

    It is accepted wherever a run or run folder is accepted.
    """

    path: pathlib.Path
    """Run folder."""
    metrics: Mapping[str, float | int | str | None] = field(default_factory=dict, repr=False, compare=False)
    """Metrics of the fit by name; if empty, they are read from the report."""
    code: str | None = field(default=None, repr=False)
    """Python file defining custom components used by the model."""
    held: object = field(default=None, repr=False, compare=False)
    """Object that owns a temporary run folder: the folder is deleted with this object. None for a permanent folder."""

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Run:
        """Run folder as a `Run`, with the paths of its files."""
        return Run(self.path)

    @functools.cached_property
    def model(self) -> Model:
        """Model with its EMA weights."""
        return load_model(self.folder, code=self.code)

    @property
    def ledger(self) -> Ledger | None:
        """Privacy ledger; None for a run without differential privacy."""
        return ledger_of(self.folder)

    @property
    def epsilon(self) -> float | None:
        """Epsilon spent so far, at the delta of the ledger; None for a run without differential privacy."""
        ledger = self.ledger
        return None if ledger is None else ledger.epsilon()

    @property
    def report(self) -> Report:
        """Report of the run; its `path` is None if no HTML page was written."""
        metrics = self.metrics or read_report_summary(self.folder).numbers
        return Report(self.path, {name: value for name, value in metrics.items() if name != "report"})

    @accepts_options(SampleConfig)
    def sample(self, n: int | None = None, *, config: SampleConfig) -> Samples | ShardedSamples:
        """Sample from the model; also write the samples to a file if the option `out` is set.

        Args:
            n: Number of samples.
            config: Options of `feller sample`; each can also be passed as a keyword argument.

        Returns:
            For a table, a DataFrame with the columns and dtypes of the training data; otherwise a `Dataset` with the
            methods `numpy()`, `frame()` and `save(path)`. With `shard_size`, the opened shards, as from
            `feller.open_shards`.
        """
        from feller.app.workflows.sample import sample

        config = config if n is None else config_of(SampleConfig, config, n=n)
        with progress_reporter(config.loading.verbose) as reporter:
            result = sample(self.folder, config, reporter=reporter, writes_files=config.output.out is not None)
        if result.shards is not None:
            return result.shards
        return result.frame if self.returns_frame(result.dataset) else result.dataset

    def log_prob(self, data: Dataset | DataSource, *, guidance: float = 1.0) -> np.ndarray:
        """Return the log-likelihood of each example in nats, [n]; for continuous data it is the log density.

        Args:
            data: Examples in the format of the fit: a DataFrame, an array, a file, or other input of `feller.read`.
            guidance: Classifier-free guidance scale, as for `sample`; 1 is the conditional model.

        Raises:
            InputError: If the data do not match the model.
            UsageError: If the model has no exact log-likelihood; see `Model.log_prob`.
        """
        if not isinstance(data, Dataset):
            data = self.model.examples(data, lenient=self._is_lenient)
        return self.model.log_prob(data, guidance=guidance).cpu().numpy()

    def impute(
        self, data: pd.DataFrame, *, strategy: str = "sample", m: int | None = None, seed: int = 0
    ) -> pd.DataFrame | list[pd.DataFrame]:
        """Impute the missing cells of a data frame from their conditional distribution given the observed cells.

        Args:
            data: Rows with missing cells; absent columns are imputed too.
            strategy: `sample` draws from the conditional distribution; `best` is the median of numbers and times and
                the most likely value of other columns; `mean` is the mean of numbers and times instead.
            m: Number of imputations (multiple imputation): returns a list of m data frames.
            seed: Random seed.

        Raises:
            InputError: If the rows do not match the fitted table.
            UsageError: If the model cannot impute, or an argument is wrong.
        """
        from feller.app.workflows.imputation import impute_frame

        return impute_frame(self.model, data, strategy=strategy, m=m, seed=seed, lenient=self._is_lenient)

    def predict_proba(self, data: pd.DataFrame, target: str | None = None) -> pd.DataFrame:
        """Return the conditional probability of each value of a column given the other columns of each row.

        Args:
            data: Rows; the target column is ignored, and absent columns are averaged over.
            target: Column (default: the target of the schema, else the last modelled column).

        Raises:
            InputError: If the rows do not match the fitted table.
            UsageError: If the column has bins of several values, or the model has no conditional probabilities.
        """
        return self._column(data, target).proba()

    def predict(self, data: pd.DataFrame, target: str | None = None) -> pd.Series:
        """Return the conditional mean of a numerical column, or the most likely value of another column.

        Arguments and errors are those of `predict_proba`; for times, the median is returned.
        """
        return self._column(data, target).predict()

    def predict_quantiles(
        self, data: pd.DataFrame, quantiles: Sequence[float] = (0.05, 0.5, 0.95), target: str | None = None
    ) -> pd.DataFrame:
        """Return conditional quantiles of a column of numbers or times, one column per quantile.

        Arguments and errors are those of `predict_proba`.
        """
        return self._column(data, target).quantiles(quantiles)

    def _column(self, data: pd.DataFrame, target: str | None) -> "ColumnPrediction":
        from feller.app.workflows.column_prediction import predict_column

        return predict_column(self.model, data, target, lenient=self._is_lenient)

    @property
    def _is_lenient(self) -> bool:
        """True for a schema that was detected from the rows: invalid cells of new rows are read as similar cells."""
        return not is_described(read_fit_record(self.folder))

    def trajectories(self, n: int = 500, *, backward: bool = False, seed: int = 0) -> np.ndarray:
        """Return trajectories [n, times, ...] of a bridge in data units, starting from samples of its first population.

        Times are equally spaced between consecutive populations.

        Args:
            n: Number of trajectories; a sample is used as a starting point again only after all samples have been used.
            backward: Simulate backward in time, from the last population to the first.
            seed: Random seed for the choice of starting points and for the noise.

        Raises:
            UsageError: If the run is not a bridge.
        """
        from feller.app.workflows.apply_bridge import trajectories

        return trajectories(self.folder, n, backward=backward, seed=seed)

    def as_samples(self, data: Dataset) -> Samples:
        """Return samples as a data frame if the training data was a table or a data frame, otherwise as a `Dataset`."""
        return data.frame() if self.returns_frame(data) else data

    def returns_frame(self, data: Dataset) -> bool:
        """Return True for samples that are returned as a data frame: tables, and points from a table or data frame."""
        if data.modality.samples_as_frame:
            return True
        source = read_fit_record(self.folder).data
        return data.modality.view(Points) is not None and (source.endswith(TABLES) or source.startswith(FRAME_PREFIX))

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


@runtime_checkable
class HasRun(Protocol):
    """Protocol of objects that hold a fitted run, such as `Synthesizer`."""

    def fitted_run(self) -> FittedRun:
        """Return the fitted run."""
        ...


@dataclass(frozen=True)
class SteeredSamples:
    """Steered samples, the corresponding unsteered samples, and the report."""

    samples: Samples
    before: Samples | None
    """Unsteered samples from the same initial noise; None for inverse problems."""
    report: Report

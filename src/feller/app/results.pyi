# Written by scripts/write_stubs.py of the functions here, config.py and option_groups.py; do not edit.

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from feller.app.commands.flag_types import (
    CodePath,
    Conditions,
    FileAndText,
    Guidance,
    LargeInt,
    Numbers,
    OptionalFloat,
    OptionalInt,
    OptionalText,
    PositiveInt,
    RawText,
    TableSource,
    Verbose,
)
from feller.app.config import (
    SampleConfig,
)
from feller.app.option_groups import (
    DocumentOptions,
    InfillOptions,
    RunOptions,
    SampleFileOptions,
    SamplerOptions,
    SpeechOptions,
    TransportOptions,
)
from feller.core.output_shards import ShardedSamples
from feller.core.run_folder import Run
from feller.data.loading.in_memory import DataSource
from feller.data.modality import Dataset
from feller.models.model import Model, Samples
from feller.privacy.accounting.ledger import Ledger

@dataclass(frozen=True, repr=False)
class Report:
    folder: pathlib.Path
    metrics: dict[str, float | int | str | None]
    name: str = "report"

    @property
    def path(self) -> pathlib.Path | None: ...
    @property
    def verdict(self) -> str: ...
    def figures(self) -> list[Figure]: ...
    def __repr__(self) -> str: ...

@dataclass(frozen=True)
class FittedRun(os.PathLike[str]):
    path: pathlib.Path
    metrics: Mapping[str, float | int | str | None] = field(default_factory=dict, repr=False, compare=False)
    code: str | None = field(default=None, repr=False)
    held: object = field(default=None, repr=False, compare=False)

    def __fspath__(self) -> str: ...
    @property
    def folder(self) -> Run: ...
    @functools.cached_property
    def model(self) -> Model: ...
    @property
    def ledger(self) -> Ledger | None: ...
    @property
    def epsilon(self) -> float | None: ...
    @property
    def report(self) -> Report: ...
    def sample(
        self,
        n: int | None = None,
        *,
        given: Conditions = None,
        guidance: Guidance = None,
        seed: int = 0,
        out: OptionalText = None,
        overwrite: bool = False,
        shard_size: LargeInt = None,
        nfe: PositiveInt = None,
        solver: OptionalText = None,
        superpose: OptionalText = None,
        compile: bool = False,
        precision: OptionalText = None,
        guidance_method: OptionalText = None,
        guidance_interval: Numbers = (),
        guide: OptionalText = None,
        grid: OptionalText = None,
        temperature: OptionalFloat = None,
        top_k: PositiveInt = None,
        top_p: OptionalFloat = None,
        length: PositiveInt = None,
        order: OptionalText = None,
        rates: OptionalText = None,
        template: RawText = None,
        complete: TableSource = None,
        impute: OptionalText = None,
        imputations: PositiveInt = None,
        shares: Conditions = None,
        fair: OptionalText = None,
        prompt: RawText = None,
        mask: OptionalText = None,
        edit: FileAndText = (),
        ask: FileAndText = (),
        memory: OptionalText = None,
        documents: OptionalInt = None,
        picture_guidance: OptionalFloat = None,
        min_p: OptionalFloat = None,
        contrast: OptionalText = None,
        best_of: PositiveInt = None,
        text: RawText = None,
        voice: FileAndText = (),
        denoise: FileAndText = (),
        span: RawText = None,
        style: FileAndText = (),
        content: FileAndText = (),
        speed: OptionalFloat = None,
        durations: OptionalText = None,
        spell: bool = False,
        language: OptionalText = None,
        vocoder: OptionalText = None,
        from_data: OptionalText = None,
        backward: bool = False,
        code: CodePath = None,
        verbose: Verbose = None,
        output: SampleFileOptions | None = None,
        sampler: SamplerOptions | None = None,
        infill: InfillOptions | None = None,
        document: DocumentOptions | None = None,
        speech: SpeechOptions | None = None,
        bridge: TransportOptions | None = None,
        loading: RunOptions | None = None,
        config: SampleConfig | None = None,
    ) -> Samples | ShardedSamples: ...
    def log_prob(self, data: Dataset | DataSource, *, guidance: float = 1.0) -> np.ndarray: ...
    def impute(
        self, data: pd.DataFrame, *, strategy: str = "sample", m: int | None = None, seed: int = 0
    ) -> pd.DataFrame | list[pd.DataFrame]: ...
    def predict_proba(self, data: pd.DataFrame, target: str | None = None) -> pd.DataFrame: ...
    def predict(self, data: pd.DataFrame, target: str | None = None) -> pd.Series: ...
    def predict_quantiles(
        self, data: pd.DataFrame, quantiles: Sequence[float] = (0.05, 0.5, 0.95), target: str | None = None
    ) -> pd.DataFrame: ...
    def trajectories(self, n: int = 500, *, backward: bool = False, seed: int = 0) -> np.ndarray: ...
    def as_samples(self, data: Dataset) -> Samples: ...
    def returns_frame(self, data: Dataset) -> bool: ...

@runtime_checkable
class HasRun(Protocol):
    def fitted_run(self) -> FittedRun: ...

@dataclass(frozen=True)
class SteeredSamples:
    samples: Samples
    before: Samples | None
    report: Report

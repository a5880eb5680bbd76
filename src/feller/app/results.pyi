# Written by scripts/write_stubs.py of the functions beside it and of config.py; do not edit.

import functools
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure

from feller.app.commands.flag_types import (
    CodeText,
    Conditions,
    Count,
    Counted,
    OtherTable,
    Pair,
    Real,
    Said,
    Text,
    Verbose,
    Whole,
)
from feller.app.config import (
    DocumentOptions,
    GapOptions,
    OpeningOptions,
    PushOptions,
    SampleConfig,
    SampleFileOptions,
    SamplerOptions,
    SpeechOptions,
)
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
    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict, repr=False, compare=False)
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
        guidance: Real = None,
        seed: int = 0,
        out: Text = None,
        overwrite: bool = False,
        shard: Count = None,
        calls: Counted = None,
        solver: Text = None,
        superpose: Text = None,
        compile: bool = False,
        temperature: Real = None,
        top_k: Counted = None,
        top_p: Real = None,
        order: Text = None,
        rates: Text = None,
        known: Said = None,
        complete: OtherTable = None,
        prompt: Said = None,
        mask: Text = None,
        edit: Pair = (),
        ask: Pair = (),
        memory: Text = None,
        documents: Whole = None,
        picture_guidance: Real = None,
        plausible: Real = None,
        contrast: Text = None,
        best_of: Counted = None,
        text: Said = None,
        voice: Pair = (),
        denoise: Pair = (),
        span: Said = None,
        style: Pair = (),
        content: Pair = (),
        speed: Real = None,
        durations: Text = None,
        spell: bool = False,
        language: Text = None,
        vocoder: Text = None,
        begin: Text = None,
        backward: bool = False,
        code: CodeText = None,
        verbose: Verbose = None,
        output: SampleFileOptions | None = None,
        sampler: SamplerOptions | None = None,
        gaps: GapOptions | None = None,
        document: DocumentOptions | None = None,
        speech: SpeechOptions | None = None,
        bridge: PushOptions | None = None,
        opening: OpeningOptions | None = None,
        config: SampleConfig | None = None,
    ) -> Samples: ...
    def log_prob(self, data: Dataset | DataSource, *, guidance: float = 1.0) -> np.ndarray: ...
    def trajectories(self, n: int = 500, *, backward: bool = False, seed: int = 0) -> np.ndarray: ...
    def as_samples(self, data: Dataset) -> Samples: ...
    def of_frame(self, data: Dataset) -> bool: ...

@runtime_checkable
class HasRun(Protocol):
    def fitted_run(self) -> FittedRun: ...

@dataclass(frozen=True)
class SteeredSamples:
    samples: Samples
    before: Samples | None
    report: Report

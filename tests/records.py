"""Records of fits."""

from dataclasses import fields
from typing import Any

from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.workflows.run_config import FitRecord, Provenance


def fit_record(recipe: str = "points", size: str = "tiny", seed: int = 0, **more: Any) -> FitRecord:
    """Return the record of a fit with given fields of its config and of its results."""
    found = {name: more.pop(name) for name in {one.name for one in fields(Provenance)} & more.keys()}
    start = more.pop("start_from", None)
    record = FitRecord(
        config=config_of(FitConfig, recipe=recipe, size=size or None, seed=seed, **more),
        provenance=Provenance(recipe=recipe, size=size, **found),
    )
    if start is None:
        return record
    object.__setattr__(record.config.training, "start_from", start)  # a run that need not be there
    return record

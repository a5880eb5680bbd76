"""Command `feller import`."""

import os
from typing import Any

from feller.app.config import ImportConfig


def run(config: ImportConfig, words: list[str]) -> dict[str, Any]:
    """Run `feller import` and return the content of the JSON output; `words` are not used."""
    from feller.app.terminal import make_reporter
    from feller.app.workflows.import_folder import import_folder
    from feller.app.workflows.import_network import import_network
    from feller.core.pretrained_folder import require_pretrained_folder
    from feller.models.pretrained.diffusers_network import PROMPT
    from feller.models.spec import load_spec

    reporter, is_folder = make_reporter(), ":" not in config.place or os.path.exists(config.place)
    if is_folder:
        require_pretrained_folder(config.place)
    run = (import_folder if is_folder else import_network)(config, reporter=reporter)
    code = "" if is_folder else f" --code {config.place.rpartition(':')[0]}"
    prompt = load_spec(run).modality.selected_conditions.get(PROMPT) if is_folder else None
    options = "" if prompt is None else f' -n 4 --given {PROMPT}="{prompt.example}"'
    reporter.log(f"sample with: feller sample {run.path}{code}{options}")
    return {"run": str(run.path)}

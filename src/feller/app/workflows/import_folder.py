"""Import workflow for folders of diffusers and transformers."""

import pathlib
import re
from dataclasses import fields, replace

from feller.app.config import FitConfig, ImportConfig
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.run_config import FitRecord, ImportConventions, Provenance, data_fingerprint
from feller.core.errors import UsageError
from feller.core.run_folder import Run, target_run
from feller.core.safetensors_io import save_tensors
from feller.core.serialization import to_dict
from feller.core.user_code import fingerprint
from feller.data.loading.dataset_reader import read
from feller.models.export.model_saving import ONCE, recipe_record
from feller.models.pretrained.folder import load_pretrained
from feller.models.spec import save_spec
from feller.training.checkpoint import save_checkpoint
from feller.training.loop import make_train_state

OF_CODE = ("weights", "predicts", "schedule", "times", "null")
"""Options that describe a network of Python code; a folder says all of this."""


def import_folder(config: ImportConfig, *, reporter: Reporter = SILENT) -> Run:
    """Create a run from a folder that `save_pretrained` wrote; nothing in the folder is executed.

    The run has copies of the weights of network and autoencoder. Text encoders stay in the folder.

    Raises:
        InputError: If files of the folder are missing, damaged or pickled, or of unknown classes.
        UsageError: If an argument is wrong, or a package is not installed.
    """
    defaults = {field.name: field.default for field in fields(ImportConfig)}
    for name in OF_CODE:
        if getattr(config, name) != defaults[name]:
            raise UsageError(argument=name, expected="a network as FILE.py:FUNCTION", found=f"{config.place}, a folder")
    folder = pathlib.Path(config.place).resolve()
    reporter.start(f"reading {folder.name}")
    model = load_pretrained(folder, image_size(config.modality), config.classes)
    spec, network = model.spec, model.network
    dataset = None if config.data is None else read(config.data).with_modality(spec.modality)
    reporter.finish()
    provenance = Provenance(
        recipe=getattr(spec.architecture, "class_name", type(spec.architecture).__name__),
        size="small",
        held_out=0.0,
        fingerprint="" if dataset is None else data_fingerprint(dataset, None),
    )
    conventions = ImportConventions(modality=config.modality, classes=config.classes, folder=str(folder))
    run = target_run(config.out, folder.name, resume=False, overwrite=config.overwrite)
    with run.acquire(resume=False, overwrite=config.overwrite):
        for name, module in spec.modality.aux_networks.items():
            save_tensors(run.aux_weights(name), module.state_dict())
            spec = replace(spec, aux_hashes={**spec.aux_hashes, name: fingerprint(run.aux_weights(name))})
        save_checkpoint(run, make_train_state(network.requires_grad_(True), ONCE))
        record = FitRecord(config=FitConfig(data=config.data), provenance=provenance).content
        content = {**record, "recipe": recipe_record(spec, None), "brought": to_dict(conventions)}
        run.write_record(run.recipe, content)
        save_spec(run, spec)  # last, because this file makes the folder a run
    count = sum(weight.numel() for weight in network.parameters())
    reporter.log(f"{provenance.recipe}: {count:,} weights, {spec.modality.display_name}; {run.path}")
    return run


def image_size(text: str | None) -> tuple[int, int] | None:
    """Return height and width of a modality such as images:512x768; None if there is none.

    Raises:
        UsageError: If the text is not a size of images.
    """
    if text is None:
        return None
    match = re.fullmatch(r"images:(\d{1,5})x(\d{1,5})(?:x[13])?", text)
    if match is None:
        raise UsageError(argument="modality", expected="a size such as images:512x512", found=repr(text))
    return int(match[1]), int(match[2])

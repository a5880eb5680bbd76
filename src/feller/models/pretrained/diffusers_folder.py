"""Models in folders that `save_pretrained` of diffusers wrote: pipelines, or a network with its scheduler."""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from feller.core.errors import InputError, UsageError, error_context, message_of
from feller.core.pretrained_folder import (
    CONFIG,
    INDEX,
    check_settings,
    check_weight_shapes,
    component_class,
    load_folder_weights,
    read_config,
)
from feller.core.rng import Rng
from feller.data.arrays.modality import Arrays
from feller.data.conditions.prompts import PromptCondition
from feller.data.images.modality import Images
from feller.data.images.pixel_codes import AsNumbers
from feller.data.prompt_encoder import PIPELINES, load_prompt_encoder
from feller.models.export.user_network import DEFAULT_COND_DROPOUT
from feller.models.families.path_process import PathProcess
from feller.models.model import Model
from feller.models.pretrained.diffusers_latents import AUTOENCODERS, DiffusersLatents
from feller.models.pretrained.diffusers_network import (
    CALLS,
    LABEL,
    PROMPT,
    ClippedData,
    DiffusersModule,
    DiffusersNetwork,
    diffusers_class,
)
from feller.models.pretrained.schedulers import own_prediction, trained_schedule
from feller.models.spec import ModelSpec

SCHEDULER = "scheduler_config.json"
NETWORKS = {
    "DDPMPipeline": ("unet", ("UNet2DModel",)),
    "DDIMPipeline": ("unet", ("UNet2DModel",)),
    "DiTPipeline": ("transformer", ("DiTTransformer2DModel", "Transformer2DModel")),
    "StableDiffusionPipeline": ("unet", ("UNet2DConditionModel",)),
    "StableDiffusionXLPipeline": ("unet", ("UNet2DConditionModel",)),
    "StableDiffusion3Pipeline": ("transformer", ("SD3Transformer2DModel",)),
    "FluxPipeline": ("transformer", ("FluxTransformer2DModel",)),
}
"""Name of the network, and its known classes, in each known pipeline."""
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of layers of attention in folders that old versions of diffusers wrote, and their present names."""
ALONE = ("UNet2DModel", "DiTTransformer2DModel")
"""Classes of networks that need no other network of a pipeline."""
PIXELS = ("DDPMPipeline", "DDIMPipeline")
"""Pipelines without an autoencoder."""
SIZES: dict[str, tuple[type, ...]] = {
    "sample_size": (int, list),
    "block_out_channels": (list,),
    **dict.fromkeys(("in_channels", "out_channels", "latent_channels", "patch_size"), (int,)),
    **dict.fromkeys(("num_embeds_ada_norm", "num_class_embeds"), (int,)),
}
"""Settings that are read here, with their types."""
FLUX_LATENTS = 128
"""Side of the latents of FLUX, whose network does not record it."""


@dataclass(frozen=True)
class _Parts:
    """Folders of the parts of a model."""

    kind: str
    """Class of the pipeline; empty for a network alone."""
    class_name: str
    """Class of the network."""
    network: pathlib.Path
    scheduler: pathlib.Path
    autoencoder: pathlib.Path | None = None


def load_diffusers(folder: pathlib.Path, size: tuple[int, int] | None = None, classes: Sequence[str] = ()) -> Model:
    """Return the model in a folder of diffusers, with its weights.

    Args:
        folder: Folder of a pipeline, or of a network with its scheduler_config.json.
        size: Height and width of the images; by default those on which the network was trained.
        classes: Names of the classes; by default those of the pipeline, or numbers.

    Raises:
        InputError: If files are missing, damaged or pickled, or of unknown classes.
        UsageError: If diffusers is not installed, or an argument does not fit.
    """
    parts = _parts(folder)
    config = read_config(parts.network / CONFIG)
    check_settings(parts.network / CONFIG, config, **SIZES)
    if parts.class_name == "UNet2DModel":
        inputs, outputs = (config.get(f"{end}_channels", 3) for end in ("in", "out"))
        if not isinstance(inputs, int) or outputs not in (inputs, 2 * inputs):
            expected = "a network with as many outputs as inputs, or twice as many with variances"
            raise InputError(expected, f"{inputs} inputs and {outputs} outputs", file=parts.network / CONFIG)
    _check_shapes(parts.class_name, parts.network, config)
    modality = _modality(folder, parts, config, size)
    num_classes = _num_classes(parts.class_name, config)
    if classes and not num_classes:
        raise UsageError(argument="classes", expected="a network with classes", found=parts.class_name)
    if num_classes:
        modality = replace(modality, classes=_class_names(folder, num_classes, classes))
    encoder = load_prompt_encoder(str(folder.resolve())) if parts.kind in PIPELINES else None
    if encoder is not None:
        images = modality.view(Images)
        code = None if images is None else images.code
        factor = code.factor if isinstance(code, DiffusersLatents) else 1
        modality = replace(modality, selected_conditions={PROMPT: PromptCondition.of_encoder(encoder, factor)})
    space = modality.space()
    _, rows, columns = space.sample_base(0, Rng(0).stream("shape")).shape[1:]
    scheduler = read_config(parts.scheduler)
    patch = _patch_size(parts.class_name, config)
    with error_context(file=parts.scheduler):
        trained = trained_schedule(scheduler, (rows // patch) * (columns // patch), parts.kind)
    schedule = trained.path.schedule
    architecture = DiffusersNetwork(
        parts.class_name,
        json.dumps({key: value for key, value in config.items() if key != "_name_or_path"}, sort_keys=True),
        trained.times,
        trained.output_scale,
        None if trained.clip is None else ClippedData(schedule, own_prediction(scheduler), trained.clip),
    )
    has_null = encoder is not None or parts.class_name == "DiTTransformer2DModel"
    spec = ModelSpec(
        modality,
        space,
        PathProcess(trained.path),
        architecture,
        {LABEL: (1 / num_classes,) * num_classes} if num_classes else {},
        trained.sampling,
        DEFAULT_COND_DROPOUT if has_null else 0.0,
    )
    network = spec.build(Rng(0))
    assert isinstance(network, DiffusersModule)
    _load(network.inner, parts.network)
    if encoder is not None:
        network.null_prompt.copy_(encoder.null_vector())
    if parts.autoencoder is not None:
        _load(modality.aux_networks["autoencoder"], parts.autoencoder)
    return Model.from_spec(spec, network.eval())


def _parts(folder: pathlib.Path) -> _Parts:
    """Return the folders of the parts of a model, whose classes are known."""
    if not (folder / INDEX).is_file():
        class_name = _present_class(str(read_config(folder / CONFIG).get("_class_name")), folder)
        if class_name not in ALONE:
            needs_pipeline = any(class_name in classes for _, classes in NETWORKS.values())
            remedy = "Import the folder of its pipeline" if needs_pipeline else None
            raise InputError(f"a pipeline, or a network of {', '.join(ALONE)}", class_name, remedy, file=folder)
        places = (folder / SCHEDULER, folder / "scheduler" / SCHEDULER, folder.parent / "scheduler" / SCHEDULER)
        scheduler = next((place for place in places if place.is_file()), None)
        if scheduler is None:
            remedy = f"Copy {SCHEDULER} of its pipeline into the folder"
            raise InputError(f"{SCHEDULER}, which says how the network was trained", "none", remedy, file=folder)
        return _Parts("", class_name, folder, scheduler)
    index = read_config(folder / INDEX)
    kind = str(index.get("_class_name"))
    if kind not in NETWORKS:
        raise InputError(f"one of the pipelines {', '.join(NETWORKS)}", kind, file=folder / INDEX)
    name, known = NETWORKS[kind]
    class_name = _present_class(str(component_class(folder, index, name, known)), folder / name)
    autoencoder = None
    if kind not in PIXELS:
        component_class(folder, index, "vae", AUTOENCODERS)
        autoencoder = folder / "vae"
    return _Parts(kind, class_name, folder / name, folder / "scheduler" / SCHEDULER, autoencoder)


def _present_class(class_name: str, folder: pathlib.Path) -> str:
    """Return the present class of a network, which old versions of diffusers wrote as Transformer2DModel."""
    if class_name != "Transformer2DModel":
        return class_name
    norm_type = read_config(folder / CONFIG).get("norm_type")
    if norm_type != "ada_norm_zero":
        found = f"norm_type={norm_type}"
        raise InputError("a Transformer2DModel with norm_type=ada_norm_zero", found, file=folder / CONFIG)
    return "DiTTransformer2DModel"


def _modality(
    folder: pathlib.Path, parts: _Parts, config: dict[str, Any], size: tuple[int, int] | None
) -> Images | Arrays:
    """Return the modality of the samples, without conditions."""
    side = config.get("sample_size") or (FLUX_LATENTS if parts.class_name == "FluxTransformer2DModel" else None)
    rows, columns = side if isinstance(side, list | tuple) else (side, side)
    vae = None
    if parts.autoencoder is not None:
        vae = read_config(parts.autoencoder / CONFIG)
        check_settings(parts.autoencoder / CONFIG, vae, **SIZES)
        _check_shapes(str(vae.get("_class_name")), parts.autoencoder, vae)
    factor = 1 if vae is None else 2 ** (len(vae.get("block_out_channels", (0,))) - 1)
    if size is None:
        if not isinstance(rows, int) or not isinstance(columns, int):
            remedy = "Add --modality images:HEIGHTxWIDTHx3"
            raise UsageError(argument="modality", expected="the size of the images", found="none", remedy=remedy)
        size = rows * factor, columns * factor
    _check_sides(parts.class_name, config, factor, size)
    height, width = size
    if vae is None:
        channels = int(config.get("in_channels", 3))
        if channels in (1, 3):
            return Images(height, width, channels, code=AsNumbers())
        return Arrays((channels, height, width))
    channels = int(vae.get("out_channels", 3))
    record = json.dumps({key: value for key, value in vae.items() if key != "_name_or_path"}, sort_keys=True)
    code = DiffusersLatents(str(vae.get("_class_name")), record, (channels, height, width))
    expected = code.network.config.latent_channels
    found = config.get("in_channels", expected) // (4 if parts.class_name == "FluxTransformer2DModel" else 1)
    if found != expected:
        raise InputError(f"a network of the {expected} channels of its autoencoder", f"one of {found}", file=folder)
    return Images(height, width, channels, code=code)


def _check_sides(class_name: str, config: dict[str, Any], factor: int, sides: tuple[int, int]) -> None:
    """Raise UsageError if a network takes no images of a size, where a latent has `factor` pixels along each side."""
    expected = None
    unit = factor * _patch_size(class_name, config)
    blocks, limit = config.get("block_out_channels", (0,) * 4), config.get("pos_embed_max_size")
    if class_name == "UNet2DModel" and isinstance(blocks, list | tuple):
        unit *= 2 ** max(len(blocks) - 1, 0)
    if any(side % unit for side in sides):
        expected = f"sides that {unit} divides"
    elif class_name == "DiTTransformer2DModel" and sides[0] != sides[1]:
        expected = "equal sides"
    elif class_name == "SD3Transformer2DModel" and isinstance(limit, int) and max(sides) > unit * limit:
        expected = f"sides of at most {unit * limit}"
    if expected is not None:
        raise UsageError(argument="modality", expected=expected, found="x".join(map(str, sides)))


def _patch_size(class_name: str, config: dict[str, Any]) -> int:
    """Return the side of the squares of latents that are tokens; 1 for networks without tokens."""
    return 2 if class_name == "FluxTransformer2DModel" else int(config.get("patch_size") or 1)


def _num_classes(class_name: str, config: dict[str, Any]) -> int:
    """Return the number of classes of a network; 0 without classes."""
    if class_name == "DiTTransformer2DModel":
        return int(config.get("num_embeds_ada_norm") or 1000)
    if class_name == "UNet2DModel" and config.get("class_embed_type") is None:
        num_classes = int(config.get("num_class_embeds") or 0)
        return num_classes
    if class_name == "UNet2DModel":
        raise InputError("a network with an embedding of classes", f"class_embed_type={config['class_embed_type']}")
    return 0


def _check_shapes(class_name: str, folder: pathlib.Path, config: dict[str, Any]) -> None:
    """Check that the weights of a network or an autoencoder are those of its configuration.

    Raises:
        InputError: If they are not, or the class is unknown.
    """
    if class_name not in (*CALLS, *AUTOENCODERS):
        raise InputError(f"a class of {', '.join((*CALLS, *AUTOENCODERS))}", class_name, file=folder / CONFIG)

    def build() -> nn.Module:
        with torch.device("meta"):
            try:
                return diffusers_class(class_name).from_config(config)
            except Exception as error:  # diffusers raises many types
                raise InputError(f"a configuration of {class_name}", message_of(error, 200), file=folder) from error

    check_weight_shapes(folder, config, build, _present_names)


def _class_names(folder: pathlib.Path, num_classes: int, names: Sequence[str]) -> tuple[str, ...]:
    """Return distinct names of the classes of a network."""
    if names and len(names) != num_classes:
        raise UsageError(argument="classes", expected=f"{num_classes} names", found=len(names))
    if not names and (folder / INDEX).is_file():
        index = read_config(folder / INDEX)
        check_settings(folder / INDEX, index, id2label=(dict,))
        labels = index.get("id2label") or {}
        names = [str(labels.get(str(i), i)).partition(",")[0] for i in range(num_classes)] if labels else ()
    names = [str(name) for name in names] or [str(i) for i in range(num_classes)]
    first = {name: i for i, name in reversed([*enumerate(names)])}
    return tuple(name if first[name] == i else f"{name} ({i})" for i, name in enumerate(names))


def _load(network: nn.Module | None, folder: pathlib.Path) -> None:
    """Load the weights of a folder into a network.

    Raises:
        InputError: If names, shapes or kinds of weights differ from those of the network.
    """
    if network is None:
        return
    renamed, own = _present_names(network), network.state_dict()
    weights = {renamed.get(name, name): value for name, value in load_folder_weights(folder).items()}
    names = sorted(own.keys() ^ weights.keys()) or [name for name in own if own[name].shape != weights[name].shape]
    if names:
        found, remedy = f"{len(names)} others, such as {names[0]}", "Copy the whole folder again"
        raise InputError(f"the weights of its {type(network).__name__}", found, remedy, file=folder)
    network.load_state_dict(weights)


def _present_names(network: nn.Module) -> dict[str, str]:
    """Return the present names of weights by their old ones, for layers of attention, as in `from_pretrained`."""
    blocks = [name for name, module in network.named_modules() if getattr(module, "_from_deprecated_attn_block", False)]
    return {
        f"{block}.{old}.{kind}": f"{block}.{new}.{kind}"
        for block in blocks
        for old, new in OLD_NAMES.items()
        for kind in ("weight", "bias")
    }


def network_folder(folder: pathlib.Path) -> pathlib.Path:
    """Return the folder of the network of a pipeline, or of a network alone."""
    return _parts(folder).network

"""Export of models to folders that diffusers or transformers open, and of low-rank updates for peft."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError
from feller.core.pretrained_folder import INDEX, check_outside, copy_own_file
from feller.data.images.modality import Images
from feller.models.model import Model
from feller.models.pretrained.diffusers_folder import network_folder
from feller.models.pretrained.diffusers_network import DiffusersModule
from feller.models.pretrained.transformers_export import write_language_model
from feller.models.pretrained.transformers_network import TransformersModule

COPIED = (".json", ".txt", ".model", ".safetensors", ".md")
"""Suffixes of the files of a pipeline that an export copies."""
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
DIFFUSERS_LORA = "pytorch_lora_weights.safetensors"
RANK_TOLERANCE = 1e-3
"""Largest part of an update that its low-rank factors may leave out, relative to its norm."""


def pretrained_network(model: Model) -> DiffusersModule | TransformersModule:
    """Return the network of a model that was imported from a folder; UsageError for other models."""
    if not isinstance(model.network, DiffusersModule | TransformersModule):
        found = type(model.spec.architecture).__name__
        remedy = "Use --to huggingface, which feller opens"
        raise UsageError(argument="to", expected="a model imported from a folder", found=found, remedy=remedy)
    if model.spec.modality.has_schema:
        found = "a model of table rows, whose texts and their constraints other packages do not know"
        raise UsageError(
            argument="to", expected="a model of texts or images", found=found, remedy="Use --to huggingface"
        )
    return model.network


def export_pretrained(model: Model, source: pathlib.Path, out: pathlib.Path) -> None:
    """Write a model to a folder in the form of the one from which it was imported.

    Network and autoencoder are those of the model; the other files are copied.

    Args:
        model: Model with a network of diffusers, or a language model of transformers.
        source: Folder that was imported.
        out: New folder.

    Raises:
        InputError: If the imported folder is missing, or a file in it is a link to another place.
        UsageError: If the model was not imported from a folder, or the new folder is inside the imported one.
    """
    if not source.is_dir():
        raise InputError("the imported folder, from which other files are copied", "none", "Put it back", file=source)
    check_outside(source, out)
    network = pretrained_network(model)
    if isinstance(network, TransformersModule):
        write_language_model(model, source, out)
        return
    target = out / network_folder(source).relative_to(source)
    for file in sorted(source.rglob("*")):
        place = out / file.relative_to(source)
        is_replaced = place.parent == target and (".safetensors" in file.name or place.suffix not in COPIED)
        if file.is_file() and file.suffix in COPIED and not is_replaced:
            copy_own_file(source, file, place)
    _save(network.inner, target)
    images = model.spec.modality.view(Images)
    if images is not None and images.code.module is not None:
        _save(images.code.module, out / "vae")


def _save(network: Any, folder: pathlib.Path) -> None:
    network.save_pretrained(folder)


def export_lora(
    model: Model, base_weights: Mapping[str, Tensor], rank: int, source: pathlib.Path, out: pathlib.Path
) -> None:
    """Write the difference of a model fine-tuned with LoRA from its base as an adapter of peft and diffusers.

    Args:
        model: Fine-tuned model, with a network of diffusers or transformers.
        base_weights: Weights of its base, by name.
        rank: Rank of the updates.
        source: Folder from which the base was imported.
        out: New folder, for adapter_config.json, adapter_model.safetensors and pytorch_lora_weights.safetensors.

    Raises:
        UsageError: If the model was not imported from a folder, or a changed weight belongs to no linear layer,
            convolution or embedding, or its update has a higher rank.
    """
    network = pretrained_network(model)
    factors: dict[str, Tensor] = {}
    modules = dict(network.inner.named_modules())
    changed = []
    tied = network.tied if isinstance(network, TransformersModule) else {}
    for name, weight in network.inner.state_dict().items():
        if name in tied:
            continue
        delta = weight.double() - base_weights[f"inner.{name}"].double()
        if not delta.any():
            continue
        module_name = name.rpartition(".")[0]
        module = modules[module_name]
        if name in tied.values():
            expected, remedy = "weights that layers do not share", "Fit with --target-modules, or use --to pretrained"
            raise UsageError(expected, f"a change of {name}, which is also in another layer", remedy)
        is_known = isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding) or _is_transposed(module)
        if not is_known or not name.endswith("weight"):
            expected, remedy = "changes of linear layers, convolutions and embeddings", "Tune with --target-modules"
            raise UsageError(expected, f"a change of {name}", remedy)
        changed.append(module_name)
        factors |= {f"{module_name}.{key}": value for key, value in _factors(name, module, delta, rank).items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file({f"base_model.model.{name}": value for name, value in factors.items()}, out / ADAPTER)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(_is_transposed(modules[name]) for name in changed),
        "target_modules": sorted(changed),
        "base_model_name_or_path": source.name,
    }
    (out / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    if (source / INDEX).is_file():
        prefix = network_folder(source).name
        save_file({f"{prefix}.{name}": value for name, value in factors.items()}, out / DIFFUSERS_LORA)


def _is_transposed(module: nn.Module) -> bool:
    """Return True for the linear layers of GPT-2, whose weights have the inputs as rows."""
    return type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils"


def _factors(name: str, module: nn.Module, delta: Tensor, rank: int) -> dict[str, Tensor]:
    """Return the factors of an update in the names and shapes of peft."""
    matrix = delta.T if _is_transposed(module) else delta.flatten(1)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    if float(s[rank:].square().sum().sqrt()) > RANK_TOLERANCE * float(s.square().sum().sqrt()):
        expected, found = f"a model fine-tuned with LoRA of rank {rank}", f"an update of {name} of higher rank"
        raise UsageError(expected, found, "Use --to pretrained")
    kept = min(rank, len(s))
    down, up = matrix.new_zeros(rank, matrix.shape[1]), matrix.new_zeros(len(matrix), rank)
    down[:kept], up[:, :kept] = s[:kept, None].sqrt() * vh[:kept], u[:, :kept] * s[:kept].sqrt()
    down, up = down.float(), up.float()
    if isinstance(module, nn.Embedding):
        return {"lora_embedding_A": up.T.contiguous(), "lora_embedding_B": down.T.contiguous()}
    if isinstance(module, nn.Conv2d):
        return {"lora_A.weight": down.unflatten(1, delta.shape[1:]), "lora_B.weight": up[:, :, None, None]}
    return {"lora_A.weight": down, "lora_B.weight": up}

"""LLaDA in folders against a forward pass written by hand."""

import json
import pathlib

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from feller.core.errors import InputError
from feller.models.pretrained.transformers_export import export_language_model
from feller.models.pretrained.transformers_folder import load_language_model
from tests.errors import refuses
from tests.models.pretrained.tiny_text import words

WIDTH, HEADS, KV_HEADS, LAYERS, THETA, EPS = 16, 4, 2, 2, 500.0, 1e-5
SETTINGS = {
    "architectures": ["LLaDAModelLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_llada.LLaDAModelLM"},
    "model_type": "llada",
    "block_type": "llama",
    "layer_norm_type": "rms",
    "activation_type": "silu",
    "rope": True,
    "alibi": False,
    "include_bias": False,
    "d_model": WIDTH,
    "n_heads": HEADS,
    "n_kv_heads": KV_HEADS,
    "n_layers": LAYERS,
    "mlp_hidden_size": 24,
    "max_sequence_length": 32,
    "rope_theta": THETA,
    "rms_norm_eps": EPS,
    "weight_tying": False,
    "mask_token_id": 4,
    "eos_token_id": 3,
}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Write a LLaDA with random weights and its tokenizer."""
    tokenizer = words()
    tokenizer.post_processor = tokenizers.processors.Sequence([])
    size, kv = tokenizer.get_vocab_size() + 2, WIDTH // HEADS * KV_HEADS
    shapes = {"wte": (size, WIDTH), "ln_f": (WIDTH,), "ff_out": (size, WIDTH)}
    for i in range(LAYERS):
        block = {"q_proj": (WIDTH, WIDTH), "k_proj": (kv, WIDTH), "v_proj": (kv, WIDTH), "attn_out": (WIDTH, WIDTH)}
        block |= {"ff_proj": (24, WIDTH), "up_proj": (24, WIDTH), "ff_out": (WIDTH, 24)}
        block |= {"attn_norm": (WIDTH,), "ff_norm": (WIDTH,)}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"model.transformer.{name}.weight": 0.4 * torch.randn(shape, generator=generator) + (len(shape) == 1)
        for name, shape in shapes.items()
    }
    out = tmp_path / "llada"
    out.mkdir()
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    (out / "config.json").write_text(json.dumps(SETTINGS | {"vocab_size": size, "embedding_size": size}))
    tokenizer.save(str(out / "tokenizer.json"))
    return out


def reference(weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Return logits of a pre-norm transformer with rotary positions, grouped queries and attention to all tokens."""

    def weight(name: str) -> torch.Tensor:
        return weights[f"model.transformer.{name}.weight"].double()

    def norm(h: torch.Tensor, name: str) -> torch.Tensor:
        return h / (h.square().mean(-1, keepdim=True) + EPS).sqrt() * weight(name)

    n, size = ids.shape[1], WIDTH // HEADS
    angles = torch.arange(n)[:, None] * THETA ** (-torch.arange(0, size, 2).double() / size)
    turn = torch.polar(torch.ones_like(angles), angles)

    def rotated(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        y = torch.complex(first, second) * turn[:, None]
        return torch.cat([y.real, y.imag], -1)

    h = weight("wte")[ids]
    for i in range(LAYERS):
        x = norm(h, f"blocks.{i}.attn_norm")
        q, k, v = ((x @ weight(f"blocks.{i}.{name}_proj").T).unflatten(-1, (-1, size)) for name in "qkv")
        k, v = (part.repeat_interleave(HEADS // KV_HEADS, 2) for part in (rotated(k), v))
        scores = torch.einsum("bihd,bjhd->bhij", rotated(q), k) / size**0.5
        h = h + torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).flatten(2) @ weight(f"blocks.{i}.attn_out").T
        x = norm(h, f"blocks.{i}.ff_norm")
        gated = F.silu(x @ weight(f"blocks.{i}.ff_proj").T) * (x @ weight(f"blocks.{i}.up_proj").T)
        h = h + gated @ weight(f"blocks.{i}.ff_out").T
    return norm(h, "ln_f") @ weight("ff_out").T


def test_logits_and_export(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = load_language_model(folder, 8)
    order = model.network.order
    assert order[-2:].tolist() == [3, 4]
    x_t = torch.tensor([[5, 6, len(order) - 1, 9, 7, len(order) - 1, 8, 8]])
    expected = reference(load_file(folder / "model.safetensors"), order[x_t])[..., order[:-1]]
    logits = model.network(x_t, torch.zeros(1), {})
    torch.testing.assert_close(logits.double(), expected, atol=1e-4, rtol=1e-4)
    assert model.sample(2).values.shape == (2, 8)
    out = export_language_model(model, folder, tmp_path / "export")
    first, second = (load_file(place / "model.safetensors") for place in (folder, out))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (out / "config.json").read_text() == (folder / "config.json").read_text()


@pytest.mark.parametrize(("key", "value"), [("block_type", "sequential"), ("alibi", True), ("n_heads", None)])
def test_other_blocks_are_refused(key: str, value: object, folder: pathlib.Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with refuses(InputError, file=str(file)):
        load_language_model(folder)

"""Models in folders of diffusers against the pipelines of diffusers, at the same noise."""

import json
import pathlib
import shutil
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

import feller
from feller.core.errors import FellerWarning, InputError, UsageError
from feller.data import prompt_encoder
from feller.data.conditions import prompts
from feller.data.conditions.prompts import PromptCondition
from feller.data.images.modality import Images
from feller.data.prompt_encoder import load_prompt_encoder
from feller.models.model import Model
from feller.models.pretrained.diffusers_folder import load_diffusers
from feller.sampling.guidance import cfg
from tests.errors import refuses
from tests.models.pretrained.tiny import PIPELINES, image_unet, make

SIZE = {"flux": (16, 16)}
STEPS, SCALE = 5, 2.5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Folder of each pipeline."""
    root = tmp_path_factory.mktemp("pipelines")
    for name in PIPELINES:
        make(name).save_pretrained(root / name)
    _set(root / "dit" / "model_index.json", "id2label", {str(i): f"kind {i}, a class" for i in range(10)})
    return {name: root / name for name in PIPELINES}


def latents(model: Model) -> torch.Tensor:
    return torch.randn(2, *model.spec.space.sample_base(1, feller.Rng(0).stream("x")).shape[1:])


def sampled(model: Model, x: torch.Tensor, given: dict[str, Any], scale: float) -> torch.Tensor:
    """Return the end of a sampling from the noise x."""
    spec = model.spec
    path, solver, times = feller.SamplerConfig(spec.sampling.solver, STEPS, times=spec.sampling.times).resolve(
        spec.path, spec.space
    )
    cond = model.sample_conditions(len(x), given, feller.Rng(0))
    network = cfg(model.network, scale, droppable=model.droppable()) if cond else model.network
    with torch.no_grad():
        return feller.simulate(path.process(network, cond), x, times, solver, feller.Rng(0))


def packed(x: torch.Tensor) -> torch.Tensor:
    """Return latents as the tokens of FLUX."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def expected(name: str, pipeline: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the result of the pipeline from the noise x; latents are on the scale of the network."""
    if name == "ddim":
        pipeline.scheduler.set_timesteps(STEPS)
        for k in pipeline.scheduler.timesteps:
            x = pipeline.scheduler.step(pipeline.unet(x, k).sample, k, x).prev_sample
        return x
    if name == "dit":
        pipeline.scheduler.set_timesteps(STEPS)
        labels = torch.tensor([3, 3, 10, 10])
        for k in pipeline.scheduler.timesteps:
            output = pipeline.transformer(torch.cat([x, x]), k.expand(4), class_labels=labels).sample[:, :4]
            with_class, without = output.chunk(2)
            x = pipeline.scheduler.step(without + SCALE * (with_class - without), k, x).prev_sample
        return x
    words = {"prompt": ["a cat", "a cat"], "num_inference_steps": STEPS, "output_type": "latent"}
    if name == "flux":
        result = pipeline(**words, latents=packed(x), height=16, width=16).images
        return result
    return pipeline(**words, guidance_scale=SCALE, latents=x).images


@pytest.mark.parametrize("name", PIPELINES)
def test_samples_of_the_pipeline(name: str, folders: dict[str, pathlib.Path]) -> None:
    pipeline, model = make(name), load_diffusers(folders[name], SIZE.get(name))
    x = latents(model)
    given = {"label": "kind 3"} if name == "dit" else {"prompt": "a cat"} if name != "ddim" else {}
    with torch.no_grad():
        reference = expected(name, pipeline, x)
    ours = sampled(model, x, given, 1.0 if name == "flux" else SCALE)
    ours = packed(ours) if name == "flux" else ours
    assert (ours - x.reshape(ours.shape)).abs().max() > 0.1
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4 * float(reference.abs().max()))


@pytest.mark.parametrize("name", ["stable-diffusion", "stable-diffusion-3"])
def test_latents_are_decoded_as_by_the_pipeline(name: str, folders: dict[str, pathlib.Path]) -> None:
    pipeline, model = make(name), load_diffusers(folders[name])
    x, modality = latents(model), model.spec.modality
    assert isinstance(modality, Images)
    vae = pipeline.vae
    with torch.no_grad():
        pixels = vae.decode(x / vae.config.scaling_factor + (vae.config.shift_factor or 0)).sample
        mean = vae.encode(pixels.clamp(-1, 1)).latent_dist.mean
    torch.testing.assert_close(modality.decode_soft(x), (pixels + 1) * 127.5)
    values = modality.decode(x)
    assert values.dtype == torch.uint8
    rounded = (mean - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    torch.testing.assert_close(modality.encode(values), rounded, atol=0.05, rtol=0.05)


def test_latents_have_the_means_and_deviations_of_their_channels(folders, tmp_path) -> None:
    folder, mean, std = tmp_path / "sdxl", [1.0, -1.0, 0.5, 0.2], [2.0, 3.0, 1.0, 0.5]
    shutil.copytree(folders["stable-diffusion-xl"], folder)
    for name, value in (("latents_mean", mean), ("latents_std", std), ("scaling_factor", 0.5)):
        _set(folder / "vae" / "config.json", name, value)
    model, vae = load_diffusers(folder), diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    x, modality = latents(model), model.spec.modality
    assert isinstance(modality, Images)
    shift, scale = (torch.tensor(values).view(4, 1, 1) for values in (mean, std))
    with torch.no_grad():
        pixels = vae.decode(x * scale / 0.5 + shift).sample
    torch.testing.assert_close(modality.decode_soft(x), (pixels + 1) * 127.5, atol=1e-2, rtol=1e-4)
    values = modality.decode(x)
    with torch.no_grad():
        encoded = vae.encode(values / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(modality.encode(values), (encoded - shift) * 0.5 / scale, atol=1e-4, rtol=1e-4)
    _set(folder / "vae" / "config.json", "latents_std", [1.0])
    with refuses(InputError, argument="latents_std"):
        load_diffusers(folder)


def test_null_prompts_have_the_features_of_the_pipeline(folders: dict[str, pathlib.Path]) -> None:
    model = load_diffusers(folders["stable-diffusion-xl"])
    cond = model.sample_conditions(2, {}, feller.Rng(0))
    tokens, pooled = model.network.prompt_features(cond)
    assert not tokens.any()  # force_zeros_for_empty_prompt
    assert not pooled.any()


def test_a_text_encoder_may_be_left_out(folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    shutil.copytree(folders["stable-diffusion-3"], tmp_path / "sd3")
    for name in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(tmp_path / "sd3" / name)
        _set(tmp_path / "sd3" / "model_index.json", name, [None, None])
    model, x = load_diffusers(tmp_path / "sd3"), torch.randn(2, 4, 8, 8)
    pipeline = type(make("stable-diffusion-3")).from_pretrained(tmp_path / "sd3", text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        reference = expected("stable-diffusion-3", pipeline, x)
    torch.testing.assert_close(sampled(model, x, {"prompt": "a cat"}, SCALE), reference, atol=1e-3, rtol=1e-4)


def test_few_prompts_are_kept(folders: dict[str, pathlib.Path], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_prompt_encoder(str(folders["stable-diffusion"]))
    known: dict[bytes, str] = {}
    monkeypatch.setattr(prompt_encoder, "KNOWN_PROMPTS", known)
    monkeypatch.setattr(prompts, "KNOWN_PROMPTS", known)
    monkeypatch.setattr(prompt_encoder, "MAX_KNOWN", 2)
    monkeypatch.setattr(prompt_encoder, "MAX_PROMPTS", 3)
    condition = PromptCondition.of_encoder(encoder, 8)
    words = ["a", "b", "c", "d", "e"]
    values = condition.encode("prompt", words)
    assert condition.decode(values).tolist() == ["", "", "c", "d", "e"]
    assert len(known) == 3
    assert {len(key) for key in known} == {32}
    assert torch.equal(condition.encode("prompt", words), values)
    none = condition.encode("prompt", [])
    assert none.shape == (0, condition.num_features)
    assert condition.decode(none).tolist() == []


def test_long_prompts_are_cut(folders: dict[str, pathlib.Path]) -> None:
    condition = load_diffusers(folders["stable-diffusion"]).spec.modality.selected_conditions["prompt"]
    assert isinstance(condition, PromptCondition)
    with pytest.warns(FellerWarning):
        condition.encode("prompt", ["a very long prompt about a cat"])


def test_clipping(folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    shutil.copytree(folders["ddim"], tmp_path / "clipped")
    file = tmp_path / "clipped" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"clip_sample": True}))
    pipeline, model = make("ddim"), load_diffusers(tmp_path / "clipped")
    x, scheduler = latents(model), type(pipeline.scheduler).from_pretrained(tmp_path / "clipped" / "scheduler")
    ours = sampled(model, x, {}, 1.0)
    scheduler.set_timesteps(STEPS)
    for k in scheduler.timesteps:
        with torch.no_grad():
            output = pipeline.unet(x, k).sample
        x = scheduler.step(output, k, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=1e-4)


def test_prompt_encoders_choose_no_code(folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    shutil.copytree(folders["stable-diffusion"], tmp_path / "copy")
    (tmp_path / "copy" / "text_encoder" / ".metadata").write_bytes(b"no pickle")
    for key in ("attn_implementation", "_attn_implementation", "_experts_implementation"):
        _set(tmp_path / "copy" / "text_encoder" / "config.json", key, "kernels-community/flash-attn2")
    changed, plain = (load_prompt_encoder(str(f)) for f in (tmp_path / "copy", folders["stable-diffusion"]))
    assert changed.pipeline.text_encoder.config._attn_implementation == "sdpa"
    assert torch.equal(changed.vector("a cat"), plain.vector("a cat"))


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("stable-diffusion", lambda folder: shutil.rmtree(folder / "text_encoder"), InputError),
        ("stable-diffusion", lambda folder: shutil.rmtree(folder / "vae"), InputError),
        ("ddim", lambda folder: _unlink(folder / "unet"), InputError),
        ("ddim", lambda folder: _pickled(folder / "unet"), InputError),
        ("ddim", lambda folder: _set(folder / "model_index.json", "_class_name", "MyPipeline"), InputError),
        ("ddim", lambda folder: _set(folder / "model_index.json", "unet", ["my_code", "Net"]), InputError),
        ("ddim", lambda folder: _set(folder / "unet" / "config.json", "block_out_channels", [8, 8]), InputError),
        ("ddim", lambda folder: _set(folder / "unet" / "config.json", "layers_per_block", "many"), InputError),
        ("ddim", lambda folder: _set(folder / "unet" / "config.json", "block_out_channels", 8), InputError),
        ("ddim", lambda folder: _set(folder / "unet" / "config.json", "out_channels", None), InputError),
        ("ddim", lambda folder: _index(folder / "unet"), InputError),
        (
            "ddim",
            lambda folder: _set(folder / "scheduler" / "scheduler_config.json", "_class_name", "LCMScheduler"),
            InputError,
        ),
    ],
)
def test_damaged_folders_are_refused(name, change, kind, folders, tmp_path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(folders[name], folder)
    change(folder)
    with refuses(kind):
        load_diffusers(folder)


@pytest.mark.parametrize(
    ("name", "part", "key", "value"),
    [
        ("ddim", "unet", "in_channels", "x"),
        ("ddim", "unet", "in_channels", []),
        ("ddim", "unet", "num_class_embeds", [1]),
        ("ddim", "unet", "sample_size", "x"),
        ("ddim", "unet", "sample_size", 10**12),
        ("ddim", "unet", "layers_per_block", 10**7),
        ("ddim", "unet", "block_out_channels", [10**6, 10**6]),
        ("dit", "transformer", "in_channels", "x"),
        ("dit", "transformer", "num_embeds_ada_norm", [1]),
        ("dit", "transformer", "num_embeds_ada_norm", 10**7),
        ("dit", "transformer", "num_layers", 10**7),
        ("dit", "transformer", "sample_size", 2**17),
        ("dit", "transformer", "patch_size", "x"),
        ("dit", "vae", "block_out_channels", -1),
        ("dit", "vae", "block_out_channels", []),
        ("dit", "vae", "out_channels", "../../etc"),
        ("dit", "vae", "latent_channels", 10**6),
        ("dit", "vae", "layers_per_block", 10**7),
        ("dit", "vae", "_class_name", ["x"]),
        ("stable-diffusion-3", "transformer", "num_layers", 10**7),
        ("flux", "transformer", "num_single_layers", 10**7),
    ],
)
def test_wrong_settings_are_refused(name: str, part: str, key: str, value: object, folders, tmp_path) -> None:
    shutil.copytree(folders[name], tmp_path / "copy")
    _set(tmp_path / "copy" / part / "config.json", key, value)
    with refuses(InputError) as caught:
        load_diffusers(tmp_path / "copy", SIZE.get(name))
    assert str(tmp_path / "copy" / part) in str(caught.value.file)


@pytest.mark.parametrize("names", [[["x"]], ["x" * 5000], ["x\0y"], [".."], [1], [""]])
def test_wrong_indices_are_refused(names: list[object], folders, tmp_path) -> None:
    shutil.copytree(folders["ddim"], tmp_path / "copy")
    index = tmp_path / "copy" / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(enumerate(names))}))
    with refuses(InputError, file=str(index)):
        load_diffusers(tmp_path / "copy")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 100_000, '{"_class_name": "DiTPipeline", "id2label": [1]}']
)
def test_wrong_json_is_refused(content: str, folders, tmp_path) -> None:
    shutil.copytree(folders["dit"], tmp_path / "copy")
    index = tmp_path / "copy" / "model_index.json"
    if "id2label" in content:
        content = json.dumps(json.loads(index.read_text()) | json.loads(content))
    index.write_text(content)
    with refuses(InputError, file=str(index)):
        load_diffusers(tmp_path / "copy")


def test_class_names_are_distinct(folders, tmp_path) -> None:
    shutil.copytree(folders["dit"], tmp_path / "copy")
    _set(tmp_path / "copy" / "model_index.json", "id2label", {str(i): "ab"[i % 2] for i in range(10)})
    modality = load_diffusers(tmp_path / "copy").spec.modality
    assert isinstance(modality, Images)
    assert modality.classes[:4] == ("a", "b", "a (2)", "b (3)")


def _unlink(folder: pathlib.Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.unlink()


def _pickled(folder: pathlib.Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))


def _set(file: pathlib.Path, key: str, value: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))


def _index(folder: pathlib.Path) -> None:
    names = {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_sharded_weights(folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    pipeline = make("ddim")
    pipeline.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len([*(tmp_path / "unet").glob("*.safetensors")]) > 1
    plain, sharded = (load_diffusers(folder).network.state_dict() for folder in (folders["ddim"], tmp_path))
    assert all(torch.equal(plain[name], sharded[name]) for name in plain)


@pytest.mark.parametrize(("name", "part"), [("ddim", "unet"), ("stable-diffusion", "vae")])
def test_old_names_of_attention(name: str, part: str, folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    folder, old = tmp_path / name, {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    shutil.copytree(folders[name], folder)
    file = folder / part / "diffusion_pytorch_model.safetensors"
    weights, renamed = load_file(file), {}
    for key, value in weights.items():
        for new, name_of_old in old.items():
            key = key.replace(f".{new}.", f".{name_of_old}.")
        renamed[key] = value
    assert renamed.keys() != weights.keys()
    save_file(renamed, file)
    assert not make(name).components[part].from_pretrained(folder / part, output_loading_info=True)[1]["missing_keys"]
    module = load_diffusers(folder).network.inner if part == "unet" else _autoencoder(load_diffusers(folder))
    assert all(torch.equal(module.state_dict()[key], value) for key, value in weights.items())


def _autoencoder(model: Model) -> torch.nn.Module:
    return model.spec.modality.aux_networks["autoencoder"]


def test_old_class_of_dit(folders: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "dit"
    shutil.copytree(folders["dit"], folder)
    _set(folder / "model_index.json", "transformer", ["diffusers", "Transformer2DModel"])
    _set(folder / "transformer" / "config.json", "_class_name", "Transformer2DModel")
    loaded = diffusers.DiTPipeline.from_pretrained(folder).transformer
    model, present = load_diffusers(folder), load_diffusers(folders["dit"])
    assert type(model.network.inner) is type(loaded)
    x = latents(model)
    ours, theirs = (sampled(model, x, {"label": "kind 3"}, SCALE) for model in (model, present))
    torch.testing.assert_close(ours, theirs)
    assert type(load_diffusers(folder / "transformer").network.inner) is type(loaded)
    _set(folder / "transformer" / "config.json", "norm_type", "layer_norm")
    with refuses(InputError, file=str(folder / "transformer" / "config.json")):
        load_diffusers(folder)


def test_sides_and_classes(folders: dict[str, pathlib.Path]) -> None:
    with refuses(UsageError, argument="modality"):
        load_diffusers(folders["stable-diffusion-3"], (18, 16))
    with refuses(UsageError, argument="classes"):
        load_diffusers(folders["dit"], classes=("a", "b"))
    wide = load_diffusers(folders["stable-diffusion-3"], (16, 24))
    assert wide.sample(1, nfe=2, given={"prompt": "a cat"}).values.shape == (1, 3, 16, 24)


@pytest.mark.parametrize(
    ("name", "accepted", "refused"),
    [
        ("ddim", (6, 10), (9, 8)),  # one halving
        ("dit", (12, 12), (16, 32)),
        ("stable-diffusion-3", (64, 16), (68, 16)),
    ],
)
def test_sides_that_networks_take(name: str, accepted: tuple[int, int], refused: tuple[int, int], folders) -> None:
    model, given = load_diffusers(folders[name], accepted), {"dit": {"label": "kind 3"}, "ddim": {}}
    values = model.sample(1, nfe=1, given=given.get(name, {"prompt": "a cat"})).values
    assert values.shape == (1, 3, *accepted)
    with refuses(UsageError, argument="modality"):
        load_diffusers(folders[name], refused)


def test_variances_of_images_are_left_out(tmp_path: pathlib.Path) -> None:
    unet = image_unet(out_channels=6)
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(variance_type="learned_range")).save_pretrained(tmp_path)
    with pytest.warns(FellerWarning):
        model = load_diffusers(tmp_path)
    x = latents(model)
    with torch.no_grad():
        output = model.network.predict(x, torch.full((2,), 500.0), {})
        torch.testing.assert_close(output, unet.eval()(x, 500).sample[:, :3])
    assert model.sample(1, nfe=2).values.shape == (1, 3, 8, 8)
    _set(tmp_path / "unet" / "config.json", "out_channels", 4)
    with refuses(InputError, file=str(tmp_path / "unet" / "config.json")):
        load_diffusers(tmp_path)

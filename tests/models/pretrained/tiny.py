"""Tiny pipelines of diffusers with random weights."""

import string
from typing import Any

import diffusers
import torch
import transformers

LETTERS = string.ascii_lowercase
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
UNET: dict[str, Any] = {"sample_size": 8, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4}
CLIP = {
    "vocab_size": 54,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 12,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "projection_dim": 16,
}


def clip_tokenizer() -> Any:
    tokens = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    vocab = {token: i for i, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=12)


def clip_encoder() -> Any:
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP))


def clip_projection() -> Any:
    return transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**CLIP))


def t5() -> dict[str, Any]:
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    config = transformers.T5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return {
        "encoder": transformers.T5EncoderModel(config),
        "tokenizer": transformers.T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=16),
    }


def autoencoder(channels: int = 4, **settings: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        **settings,
    )


def image_unet(out_channels: int = 3, **settings: Any) -> Any:
    return diffusers.UNet2DModel(
        **UNET,
        in_channels=3,
        out_channels=out_channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        **settings,
    )


def prompt_unet(width: int, **settings: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        **UNET,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=width,
        **settings,
    )


def ddim() -> Any:
    return diffusers.DDIMPipeline(image_unet(), diffusers.DDIMScheduler(clip_sample=False))


def dit() -> Any:
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=10,
        attention_bias=True,
    )
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    return diffusers.DiTPipeline(transformer, autoencoder(), scheduler)


def stable_diffusion() -> Any:
    scheduler = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **BETAS)
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=clip_encoder(),
        tokenizer=clip_tokenizer(),
        unet=prompt_unet(16),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    unet = prompt_unet(
        32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
        use_linear_projection=True,
    )
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=clip_encoder(),
        text_encoder_2=clip_projection(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **BETAS),
    )


def stable_diffusion_3() -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=16,
    )
    third = t5()
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip_projection(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_projection(),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=third["encoder"],
        tokenizer_3=third["tokenizer"],
    )


def flux() -> Any:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    second = t5()
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=clip_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=second["encoder"],
        tokenizer_2=second["tokenizer"],
        transformer=transformer,
    )


PIPELINES = {
    "ddim": ddim,
    "dit": dit,
    "stable-diffusion": stable_diffusion,
    "stable-diffusion-xl": stable_diffusion_xl,
    "stable-diffusion-3": stable_diffusion_3,
    "flux": flux,
}


def make(name: str) -> Any:
    """Return a pipeline with random weights, which are large enough that outputs depend on all inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = PIPELINES[name]()
        for component in pipeline.components.values():
            for weight in component.eval().parameters() if isinstance(component, torch.nn.Module) else ():
                if weight.ndim > 1:  # some are zero at initialisation
                    torch.nn.init.normal_(weight, std=0.1)
                weight.requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

"""Tiny models of the real classes with random weights, saved as their library saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def pixel_model(folder: Path, *, classes: int | None = 3, learned: bool = False, channels: int = 1) -> Path:
    """A DDPM pipeline, or for classes one of a class-conditional UNet, on 8 x 8 pixels."""
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels * (2 if learned else 1),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        num_class_embeds=classes,
    )
    scheduler = DDIMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    DDIMPipeline(unet, scheduler).save_pretrained(folder)
    return folder


def bare_model(folder: Path) -> Path:
    """The UNet of `pixel_model` alone."""
    from diffusers import UNet2DModel

    pixel_model(folder / "pipeline")
    UNet2DModel.from_pretrained(folder / "pipeline/unet").save_pretrained(folder / "unet")
    return folder / "unet"


def _autoencoder(**more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        **more,
    )


def dit_model(folder: Path) -> Path:
    """A class-conditional diffusion transformer on the latents of an autoencoder: 16 x 16 pixels."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        patch_size=2,
        num_embeds_ada_norm=5,
        norm_num_groups=4,
    )
    DiTPipeline(transformer, _autoencoder(), DDIMScheduler()).save_pretrained(folder)
    return folder


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer with a vocabulary of letters."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=24)


_DENOISER: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}


def _words_read(words: Any) -> dict[str, Any]:
    """Configuration of a text encoder for a tokenizer."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return sizes | ends | {"vocab_size": len(words), "max_position_embeddings": 24}


def stable_diffusion(folder: Path, *, safety: bool = False) -> Path:
    """Stable Diffusion 1.x in a tiny configuration: 16 x 16 pixels."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    text = CLIPTextModel(CLIPTextConfig(**_words_read(words)))
    unet = UNet2DConditionModel(**_DENOISER, cross_attention_dim=16)
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    checker = extractor = None
    if safety:
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        checker = StableDiffusionSafetyChecker(
            CLIPConfig(vision_config={**vision, "image_size": 16, "patch_size": 8}, projection_dim=8)
        )
        extractor = CLIPImageProcessor(size=16, crop_size=16)
    StableDiffusionPipeline(
        vae=_autoencoder(),
        text_encoder=text,
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=checker,
        feature_extractor=extractor,
        requires_safety_checker=safety,
    ).save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def stable_diffusion_xl(folder: Path) -> Path:
    """Stable Diffusion XL in a tiny configuration, whose autoencoder wants float32 to decode."""
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    read = CLIPTextConfig(**_words_read(words), projection_dim=16)
    unet = UNet2DConditionModel(
        **_DENOISER,
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )
    autoencoder = _autoencoder()
    assert autoencoder.config.force_upcast
    StableDiffusionXLPipeline(
        vae=autoencoder,
        text_encoder=CLIPTextModel(read),
        text_encoder_2=CLIPTextModelWithProjection(read),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        scheduler=DDIMScheduler(),
        add_watermarker=False,
    ).save_pretrained(folder / "pipeline")
    return folder / "pipeline"


_SHIFTED = {"shift_factor": 0.06, "scaling_factor": 1.5, "use_quant_conv": False, "use_post_quant_conv": False}


def _t5(width: int) -> tuple[Any, Any]:
    """T5's tokenizer with a vocabulary of letters, and an encoder of it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    words += [(chr(code), -3.0) for code in range(33, 127)]
    whole = Tokenizer(models.Unigram(words, unk_id=2))
    whole.pre_tokenizer = pre_tokenizers.Metaspace()
    whole.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made = T5TokenizerFast(tokenizer_object=whole, extra_ids=0, model_max_length=24)
    sizes = {"d_model": width, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return made, T5EncoderModel(T5Config(vocab_size=len(words), **sizes))


def stable_diffusion_3(folder: Path) -> Path:
    """Stable Diffusion 3 in a tiny configuration: three text encoders, a transformer, flow matching; 16 x 16 pixels."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    read = CLIPTextConfig(**_words_read(words), projection_dim=16)
    more, encoder = _t5(32)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
    )
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_autoencoder(**_SHIFTED),
        text_encoder=CLIPTextModelWithProjection(read),
        tokenizer=words,
        text_encoder_2=CLIPTextModelWithProjection(read),
        tokenizer_2=words,
        text_encoder_3=encoder,
        tokenizer_3=more,
    ).save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def flux(folder: Path) -> Path:
    """Flux in a tiny configuration. Its pictures have the size that a recipe says."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    more, encoder = _t5(16)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_autoencoder(**_SHIFTED),
        text_encoder=CLIPTextModel(CLIPTextConfig(**_words_read(words))),
        tokenizer=words,
        text_encoder_2=encoder,
        tokenizer_2=more,
    ).save_pretrained(folder / "pipeline")
    return folder / "pipeline"

"""Pictures without text, of any kind or by class: `random` from noise, `vary` from a noised parent.

The variation is that of the first Private Evolution paper (arXiv 2305.15560, appendix on improved-diffusion): the first
steps of the (respaced) schedule are left out. The parent is noised to the level of the next step, and denoised from
there.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pe_beam.modalities.image.diffusion.known import Known
from pe_beam.modalities.image.diffusion.painter import Ask, Dials, Drawn, Painter, generators, to_bytes


class Unprompted(Painter):
    """A denoiser (UNet2DModel, DiT) with its scheduler, on pixels or on the latents of an autoencoder."""

    def __init__(
        self,
        denoiser: Any,
        scheduler: Any,
        autoencoder: Any,
        *,
        known: Known,
        eta: float = 0.0,
        level_scale: float = 1.0,
    ) -> None:
        """Takes models on their device, and what is known of them; `autoencoder` None: it works on pixels."""
        self._denoiser, self._scheduler, self._autoencoder = denoiser, scheduler, autoencoder
        self._known, self.mode, self.classes = known, known.mode, known.classes
        self._eta, self._level_scale = eta, level_scale

    def paint(self, asks: Sequence[Ask], dials: Dials) -> list[Drawn]:
        """See `Painter`."""
        import torch
        from diffusers.utils.torch_utils import randn_tensor

        noises, scheduler = generators(asks), self._scheduler
        device, dtype = self._denoiser.device, self._denoiser.dtype
        with torch.inference_mode():
            scheduler.set_timesteps(dials.steps, device=device)
            first = 0 if dials.first is None else dials.first * scheduler.order
            levels = scheduler.timesteps[first:]
            if dials.first is not None and not len(levels):  # no step is left to do
                return [self._given(ask) for ask in asks]
            given = None if dials.first is None else self._encoded(asks)
            shape = (len(asks), self._known.channels, *self._known.shape) if given is None else given.shape
            noise = randn_tensor(shape, generator=noises, device=device, dtype=dtype)
            if given is None:
                x = noise * scheduler.init_noise_sigma
            else:
                if hasattr(scheduler, "set_begin_index"):
                    scheduler.set_begin_index(first)
                x = scheduler.add_noise(given, noise, levels[:1])
            x = self._denoised(x, levels, asks, dials.guidance, noises)
            return to_bytes(self._decoded(x))

    def _denoised(self, x: Any, levels: Any, asks: Sequence[Ask], guidance: float | None, noises: Sequence[Any]) -> Any:
        import torch

        scheduler, kinds = self._scheduler, None
        if self.classes is not None:
            kinds = torch.tensor([ask.kind for ask in asks], device=x.device)
        taken = inspect.signature(scheduler.step).parameters
        more = {"eta": self._eta, "generator": list(noises)}
        more = {name: value for name, value in more.items() if name in taken}
        for level in levels:
            scaled = scheduler.scale_model_input(x, level)
            predicted = self._predicted(scaled, level, kinds, guidance)
            x = scheduler.step(predicted, level, x, **more).prev_sample
        return x

    def _predicted(self, x: Any, level: Any, kinds: Any, guidance: float | None) -> Any:
        """Returns the model's answer. With guidance above 1, it is guided away from the answer without a class.

        Models with learned variances answer with twice the channels. Schedulers that do not use the variances get the
        first half.
        """
        import torch

        levels = level[None].expand(len(x)) if torch.is_tensor(level) else torch.tensor([level] * len(x))
        levels = levels if self._level_scale == 1 else levels * self._level_scale
        more = {} if kinds is None else {"class_labels": kinds}
        answer = self._denoiser(x, levels.to(x.device), **more).sample
        if guidance is not None and guidance > 1:
            none = torch.full_like(kinds, self._known.null)
            plain = self._denoiser(x, levels.to(x.device), class_labels=none).sample
            mean, rest = answer[:, : self._known.channels], answer[:, self._known.channels :]
            base = plain[:, : self._known.channels]
            answer = torch.cat([base + guidance * (mean - base), rest], dim=1)
        learned = str(getattr(self._scheduler.config, "variance_type", "")).startswith("learned")
        return answer if learned else answer[:, : self._known.channels]

    def _given(self, ask: Ask) -> np.ndarray:
        """Returns a parent in the model's mode and size."""
        assert ask.parent is not None
        tall, wide = self._known.shape
        size = (wide * self._known.scale, tall * self._known.scale)
        picture = Image.fromarray(ask.parent).convert(self.mode)
        return np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC))

    def _encoded(self, asks: Sequence[Ask]) -> Any:
        """Returns parents as the denoiser takes them: in [-1, 1], or as latents (their mean: no noise is drawn)."""
        import torch

        pictures = np.stack([self._given(ask) for ask in asks]).astype(np.float32) / 127.5 - 1
        pictures = pictures[:, None] if pictures.ndim == 3 else pictures.transpose(0, 3, 1, 2)
        x = torch.from_numpy(np.ascontiguousarray(pictures)).to(self._denoiser.device, self._denoiser.dtype)
        if self._autoencoder is None:
            return x
        found = self._autoencoder.encode(x)
        latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return latents * getattr(self._autoencoder.config, "scaling_factor", 1.0)

    def _decoded(self, x: Any) -> np.ndarray:
        """Returns float32 (n, h, w, c), around [0, 1]."""
        if self._autoencoder is not None:
            x = self._autoencoder.decode(x / getattr(self._autoencoder.config, "scaling_factor", 1.0)).sample
        found: np.ndarray = (x.float() / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
        return found

"""Classifiers of small pictures: a small network of convolutions, and the family of wide residual networks.

All draws come from a generator that the caller gives, so that other threads' use of torch's generator changes nothing.
"""

from __future__ import annotations

import torch
from torch import nn


def small_network(channels: int, classes: int, side: int) -> nn.Module:
    """Builds three convolutions with batch normalisation (16, 32 and 64 channels) for pictures of `side` pixels."""

    def layer(width: int, wider: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(width, wider, 3, stride=stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(wider), nn.ReLU()]

    return nn.Sequential(
        *layer(channels, 16, 2 if side > 16 else 1),
        *layer(16, 32, 2),
        *layer(32, 64, 2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4, classes),
    )


class WideResNet(nn.Module):
    """WRN-depth-width (Zagoruyko and Komodakis 2016, arXiv 1605.07146): three groups of pre-activation blocks.

    Args:
      channels: channels of a picture.
      classes: number of scores.
      depth: number of layers, 6 n + 4, with n blocks in each group.
      width: factor on the channels of the groups, 16, 32 and 64.
      dropout: share that is dropped between the two convolutions of a block.
    """

    def __init__(self, channels: int, classes: int, *, depth: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        blocks, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        groups: list[nn.Module] = []
        for group, stride in enumerate((1, 2, 2)):
            groups.append(_Block(widths[group], widths[group + 1], stride, dropout))
            groups += [_Block(widths[group + 1], widths[group + 1], 1, dropout) for _ in range(blocks - 1)]
        self.first = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.groups = nn.Sequential(*groups)
        self.last = nn.Sequential(nn.BatchNorm2d(widths[3]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.scores = nn.Linear(widths[3], classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Maps pictures (b, c, h, w) to scores (b, classes)."""
        scores: torch.Tensor = self.scores(self.last(self.groups(self.first(pictures))))
        return scores


class _Block(nn.Module):
    """Computes x + conv(relu(bn(conv(relu(bn x))))).

    If the shape changes, a 1 x 1 convolution of relu(bn x) replaces the x that is added. It takes the activated input,
    as in the authors' code.
    """

    def __init__(self, width: int, wider: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        self.inner = nn.Sequential(
            nn.Conv2d(width, wider, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(),
            Dropout(dropout),
            nn.Conv2d(wider, wider, 3, padding=1, bias=False),
        )
        changes = width != wider or stride != 1
        self.past = nn.Conv2d(width, wider, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ready = self.before(x)
        inner: torch.Tensor = self.inner(ready)
        return inner + (x if self.past is None else self.past(ready))


class Dropout(nn.Module):
    """Dropout that draws from `draws`, which `begin` sets."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.draws: torch.Generator | None = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Drops values and scales up the others in training. Otherwise returns the values unchanged."""
        if not self.training or not self.share:
            return values
        keep = torch.rand(values.shape, generator=self.draws, device=values.device) >= self.share
        return values * keep / (1 - self.share)


def begin(network: nn.Module, draws: torch.Generator) -> nn.Module:
    """Gives a network that was built on torch's device `meta` its initial weights, on the device of `draws`.

    Convolutions: He et al. 2015, by fan-out. The last layer: normal, variance 1 / inputs.
    """
    network.to_empty(device=draws.device)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                height, width = module.kernel_size
                module.weight.normal_(std=(2 / (module.out_channels * height * width)) ** 0.5, generator=draws)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(std=module.in_features**-0.5, generator=draws)
                module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, Dropout):
                module.draws = draws
    return network

"""The Inception v3 of the FID: torchvision's network, changed where TensorFlow's network of 2015-12-05 differs.

The names of weights are those in the files of torch-fidelity and pytorch-fid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import inception

_CLASSES = 1008


class FidInception(nn.Module):
    """Maps pictures (b, 3, 299, 299), scaled to [-1, 1), to features of the last pooling, (b, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        conv = inception.BasicConv2d
        self.Conv2d_1a_3x3 = conv(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = conv(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = conv(32, 64, kernel_size=3, padding=1)
        self.maxpool1 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Conv2d_3b_1x1 = conv(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = conv(80, 192, kernel_size=3)
        self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Mixed_5b = _BlockA(192, pool_features=32)
        self.Mixed_5c = _BlockA(256, pool_features=64)
        self.Mixed_5d = _BlockA(288, pool_features=64)
        self.Mixed_6a = inception.InceptionB(288)
        self.Mixed_6b = _BlockC(768, channels_7x7=128)
        self.Mixed_6c = _BlockC(768, channels_7x7=160)
        self.Mixed_6d = _BlockC(768, channels_7x7=160)
        self.Mixed_6e = _BlockC(768, channels_7x7=192)
        self.Mixed_7a = inception.InceptionD(768)
        self.Mixed_7b = _BlockE(1280)
        self.Mixed_7c = _LastBlock(2048)
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, pictures: Any) -> Any:
        """See the class."""
        found = pictures
        for layer in self.children():
            found = layer(found)
        return found.flatten(1)


def _mean(found: Any) -> Any:
    """Averages as TensorFlow does, without counting the zeros around a picture."""
    return functional.avg_pool2d(found, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def _chain(found: Any, *layers: Any) -> Any:
    for layer in layers:
        found = layer(found)
    return found


class _BlockA(inception.InceptionA):
    def _forward(self, found: Any) -> list[Any]:
        return [
            self.branch1x1(found),
            _chain(found, self.branch5x5_1, self.branch5x5_2),
            _chain(found, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3),
            self.branch_pool(_mean(found)),
        ]


class _BlockC(inception.InceptionC):
    def _forward(self, found: Any) -> list[Any]:
        double = [getattr(self, f"branch7x7dbl_{place}") for place in range(1, 6)]
        return [
            self.branch1x1(found),
            _chain(found, self.branch7x7_1, self.branch7x7_2, self.branch7x7_3),
            _chain(found, *double),
            self.branch_pool(_mean(found)),
        ]


class _BlockE(inception.InceptionE):
    def _forward(self, found: Any) -> list[Any]:
        single = self.branch3x3_1(found)
        double = _chain(found, self.branch3x3dbl_1, self.branch3x3dbl_2)
        return [
            self.branch1x1(found),
            torch.cat([self.branch3x3_2a(single), self.branch3x3_2b(single)], 1),
            torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1),
            self.branch_pool(self._pooled(found)),
        ]

    def _pooled(self, found: Any) -> Any:
        return _mean(found)


class _LastBlock(_BlockE):
    def _pooled(self, found: Any) -> Any:
        """Takes the maximum and not the mean, as TensorFlow's graph does."""
        return functional.max_pool2d(found, kernel_size=3, stride=1, padding=1)

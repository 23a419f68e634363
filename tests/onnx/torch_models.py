"""Small architectures in PyTorch, each with an example input: what people export.

Importing this module needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

Example = tuple[Tensor, ...]
CASES: dict[str, Callable[[], tuple[nn.Module, Example]]] = {}


def case(make: Callable[[], tuple[nn.Module, Example]]) -> Callable[[], tuple[nn.Module, Example]]:
    """Register an architecture under its function's name."""
    CASES[make.__name__] = make
    return make


class Lambda(nn.Module):
    """A module out of a function of its layers and inputs."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def image(channels: int = 3, size: int = 16) -> Tensor:
    return torch.randn(2, channels, size, size)


def normed(channels: int) -> nn.BatchNorm2d:
    """A batch norm whose running statistics are not those of the beginning."""
    norm = nn.BatchNorm2d(channels)
    assert norm.running_mean is not None and norm.running_var is not None
    nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    nn.init.uniform_(norm.running_var, 0.5, 1.5)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    return norm


# -- layers side by side --------------------------------------------------------------------------


@case
def mlp() -> tuple[nn.Module, Example]:
    layers = [nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 4)]
    return nn.Sequential(*layers, nn.Softmax(dim=-1)), (torch.randn(2, 10),)


@case
def activations() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        parts = [
            functional.silu(x),
            functional.mish(x),
            functional.elu(x, 0.7),
            functional.selu(x),
            functional.celu(x, 1.3),
            functional.softplus(x),
            functional.softsign(x),
            functional.hardswish(x),
            functional.hardsigmoid(x),
            functional.hardtanh(x, -0.3, 0.8),
            functional.leaky_relu(x, 0.2),
            self.prelu(x),
            functional.gelu(x, approximate="tanh"),
            functional.logsigmoid(x),
            functional.relu6(4 * x),
            functional.softshrink(x, 0.2),
            functional.hardshrink(x, 0.3),
        ]
        return torch.stack(parts, dim=1)

    return Lambda(forward, prelu=nn.PReLU(6)), (torch.randn(2, 6, 5),)


@case
def cnn_with_batch_norm() -> tuple[nn.Module, Example]:
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        normed(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        normed(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ]
    return nn.Sequential(*layers), (image(),)


@case
def lenet() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(torch.tanh(self.a(x)), 2)
        x = functional.max_pool2d(torch.relu(self.b(x)), 2)
        return functional.log_softmax(self.c(x.view(x.size(0), -1)), dim=1)

    layers = {"a": nn.Conv2d(1, 6, 5), "b": nn.Conv2d(6, 16, 5), "c": nn.Linear(256, 10)}
    return Lambda(forward, **layers), (image(1, 28),)


@case
def residual_block() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = torch.relu(self.norm_a(self.a(x)))
        return torch.relu(self.norm_b(self.b(y)) + self.shortcut(x)).mean(dim=(2, 3))

    layers = {
        "a": nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        "b": nn.Conv2d(16, 16, 3, padding=1, bias=False),
        "shortcut": nn.Conv2d(8, 16, 1, stride=2),
        "norm_a": normed(16),
        "norm_b": normed(16),
    }
    return Lambda(forward, **layers), (image(8),)


@case
def unet() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        first = torch.relu(self.down(x))
        second = torch.relu(self.middle(functional.max_pool2d(first, 2)))
        up = functional.interpolate(second, scale_factor=2, mode="bilinear", align_corners=False)
        up = functional.pad(up, [0, first.size(3) - up.size(3), 0, first.size(2) - up.size(2)])
        return torch.sigmoid(self.out(torch.cat([first, up], dim=1)))

    layers = {
        "down": nn.Conv2d(3, 8, 3, padding=1),
        "middle": nn.Conv2d(8, 8, 3, padding=1),
        "out": nn.Conv2d(16, 1, 3, padding=1),
    }
    return Lambda(forward, **layers), (image(3, 17),)


@case
def mobile_block() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = functional.relu6(self.expand(x))
        y = functional.hardswish(self.depthwise(y))
        gate = y.mean((2, 3), keepdim=True)
        y = y * functional.hardsigmoid(self.excite(torch.relu(self.squeeze(gate))))
        return x + self.project(y)

    layers = {
        "expand": nn.Conv2d(8, 24, 1),
        "depthwise": nn.Conv2d(24, 24, 3, padding=1, groups=24),
        "squeeze": nn.Conv2d(24, 6, 1),
        "excite": nn.Conv2d(6, 24, 1),
        "project": nn.Conv2d(24, 8, 1),
    }
    return Lambda(forward, **layers), (image(8, 10),)


@case
def inception_branches() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        pooled = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        parts = [self.one(x), self.three(x), self.five(x), self.pool(pooled)]
        y = functional.local_response_norm(torch.cat(parts, 1), 5)
        return functional.max_pool2d(y, 3, stride=2, ceil_mode=True)

    layers = {
        "one": nn.Conv2d(4, 3, 1),
        "three": nn.Conv2d(4, 3, 3, padding=1),
        "five": nn.Conv2d(4, 3, 5, padding=2),
        "pool": nn.Conv2d(4, 3, 1),
    }
    return Lambda(forward, **layers), (image(4, 12),)


@case
def transposed_autoencoder() -> tuple[nn.Module, Example]:
    layers = [
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ELU(),
        nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
        nn.InstanceNorm2d(4, affine=True),
        nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1, dilation=1),
        nn.Tanh(),
    ]
    return nn.Sequential(*layers), (image(1, 12),)


@case
def group_norms_and_upsampling() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = functional.silu(self.norm(self.conv(x)))
        near = functional.interpolate(y, scale_factor=2, mode="nearest")
        cubic = functional.interpolate(y, size=(20, 20), mode="bicubic", align_corners=True)
        return near.mean(1) * 2 + cubic.sum(1)

    layers = {"conv": nn.Conv2d(4, 8, 3, padding=1), "norm": nn.GroupNorm(4, 8)}
    return Lambda(forward, **layers), (image(4, 10),)


@case
def pixel_shuffle_super_resolution() -> tuple[nn.Module, Example]:
    layers = [nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 9, 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(3), nn.ReflectionPad2d(2)), (image(1, 8),)


@case
def volumes() -> tuple[nn.Module, Example]:
    layers = [
        nn.Conv3d(2, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.AvgPool3d(2),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers), (torch.randn(2, 2, 8, 8, 8),)


@case
def temporal_convolutions() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = torch.relu(self.a(functional.pad(x, (4, 0))))
        gated = torch.tanh(self.b(y)) * torch.sigmoid(self.c(y))
        return functional.adaptive_max_pool1d(gated, 1).squeeze(-1)

    layers = {
        "a": nn.Conv1d(4, 8, 3, dilation=2),
        "b": nn.Conv1d(8, 8, 1),
        "c": nn.Conv1d(8, 8, 1),
    }
    return Lambda(forward, **layers), (torch.randn(2, 4, 20),)


# -- recurrence -----------------------------------------------------------------------------------


@case
def lstm() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y, (h, c) = self.cell(x)
        return torch.cat([y[:, -1], h[-1], c[-1]], dim=1)

    cell = nn.LSTM(6, 8, num_layers=2, batch_first=True, bidirectional=True)
    return Lambda(forward, cell=cell), (torch.randn(2, 7, 6),)


@case
def gru() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y, h = self.cell(x)
        return self.out(y) + h[0][:, None, :4]

    layers = {"cell": nn.GRU(6, 8, batch_first=True), "out": nn.Linear(8, 4)}
    return Lambda(forward, **layers), (torch.randn(2, 5, 6),)


@case
def plain_recurrence() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.cell(x.transpose(0, 1))[0].transpose(0, 1)

    return Lambda(forward, cell=nn.RNN(6, 5, nonlinearity="relu")), (torch.randn(2, 5, 6),)


@case
def text_classifier() -> tuple[nn.Module, Example]:
    def forward(self: Any, ids: Tensor) -> Tensor:
        mask = (ids != 0).unsqueeze(-1)
        y = self.cell(self.embedding(ids))[0]
        y = y.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)
        return self.out(y)

    layers = {
        "embedding": nn.Embedding(20, 6, padding_idx=0),
        "cell": nn.GRU(6, 5, batch_first=True),
        "out": nn.Linear(5, 3),
    }
    return Lambda(forward, **layers), (torch.randint(0, 20, (2, 9)),)


# -- attention ------------------------------------------------------------------------------------


@case
def transformer_encoder() -> tuple[nn.Module, Example]:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return encoder, (torch.randn(2, 6, 16),)


class Decoder(nn.Module):
    """A small GPT: tokens and places, causal attention, tied output."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.tokens, self.places = nn.Embedding(30, width), nn.Embedding(16, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
        self.register_buffer("mask", torch.tril(torch.ones(16, 16)).bool())

    def forward(self, ids: Tensor) -> Tensor:
        batch, length = ids.shape
        x = self.tokens(ids) + self.places(torch.arange(length, device=ids.device))
        parts = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        q, k, v = (p.view(batch, length, self.heads, -1).transpose(1, 2) for p in parts)
        scores = q @ k.transpose(-2, -1) / q.size(-1) ** 0.5
        scores = scores.masked_fill(~self.mask[:length, :length], float("-inf"))
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1)
        x = x + self.out(y)
        x = x + self.mlp(self.norms[1](x))
        return self.norms[2](x) @ self.tokens.weight.T


@case
def gpt_decoder() -> tuple[nn.Module, Example]:
    return Decoder(), (torch.randint(0, 30, (2, 7)),)


@case
def scaled_dot_product() -> tuple[nn.Module, Example]:
    def forward(self: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    shape = (2, 3, 5, 8)
    return Lambda(forward), (torch.randn(shape), torch.randn(shape), torch.randn(shape))


@case
def multi_head_attention() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor, memory: Tensor) -> Tensor:
        y, weights = self.attention(x, memory, memory)
        return y.sum(-1) + weights.mean(-1)

    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    return Lambda(forward, attention=attention), (torch.randn(2, 5, 16), torch.randn(2, 7, 16))


@case
def rotary_attention() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        place = torch.arange(x.size(1), dtype=torch.float32)
        angle = torch.outer(place, 10.0 ** (-torch.arange(4) / 2.0))
        cos, sin = angle.cos(), angle.sin()

        def turned(t: Tensor) -> Tensor:
            a, b = t[..., 0::2], t[..., 1::2]
            return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)

        scores = torch.einsum("bhqd,bhkd->bhqk", turned(q), turned(k)).softmax(-1)
        rms = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return rms + torch.einsum("bhqk,bhkd->bqhd", scores, v).flatten(2)

    return Lambda(forward, qkv=nn.Linear(16, 48)), (torch.randn(2, 6, 16),)


@case
def vision_transformer() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        first = self.token.weight[None].expand(x.shape[0], -1, -1)
        y = torch.cat([first, y], dim=1) + self.places.weight
        return self.out(self.layer(y)[:, 0])

    layers = {
        "patches": nn.Conv2d(3, 16, 4, stride=4),
        "token": nn.Embedding(1, 16),
        "places": nn.Embedding(17, 16),
        "layer": nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu"),
        "out": nn.Linear(16, 5),
    }
    return Lambda(forward, **layers), (image(3, 16),)


# -- indexing, shapes, selection ------------------------------------------------------------------


@case
def embedding_sums() -> tuple[nn.Module, Example]:
    def forward(self: Any, ids: Tensor) -> Tensor:
        found = self.table(ids)
        best = found.max(dim=1)
        return torch.cat([found.sum(1), best.values, best.indices.float(), found.std(1)], dim=1)

    return Lambda(forward, table=nn.Embedding(12, 4)), (torch.randint(0, 12, (2, 5)),)


@case
def shapes_and_selection() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        batch, channels, length = x.shape
        y = x.reshape(batch, channels // 2, 2 * length).permute(0, 2, 1)
        y = y.contiguous().view(batch * 2 * length, -1)
        y = torch.cat([y, torch.zeros(y.shape[0], 1)], dim=1).view(batch, -1)
        top, places = y.topk(4, dim=1)
        picked = torch.gather(y, 1, places.flip(1))
        upper = torch.triu(torch.ones(4, 4), diagonal=1).unsqueeze(0).expand(batch, 4, 4)
        chosen = torch.where(top > 0.5, picked, -top)
        return torch.cat([(chosen[:, None] @ upper).squeeze(1), torch.cumsum(top, 1)], 1)

    return Lambda(forward), (torch.randn(2, 4, 6),)


@case
def writes_by_index() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, 1:3] = 2.0 * x[:, 0:2]
        y[:, :, -1] = 0.5
        places = torch.tensor([[0, 2]]).expand(x.shape[0], 2)
        y = y.scatter(1, places[..., None].expand(-1, -1, x.shape[2]), 1.0)
        return torch.roll(y, 1, dims=2) + torch.clamp(x, -0.5, 0.5).abs().sqrt()

    return Lambda(forward), (torch.randn(2, 4, 5),)


@case
def sampling_by_a_grid() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        theta = self.pose(x.mean((2, 3))).view(-1, 2, 3)
        grid = functional.affine_grid(theta, [x.size(0), 3, 8, 8], align_corners=False)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    return Lambda(forward, pose=nn.Linear(3, 6)), (image(3, 8),)


@case
def losses_and_norms() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor, target: Tensor) -> Tensor:
        scores = functional.normalize(x, dim=1) * 4.0
        loss = functional.cross_entropy(scores, target, reduction="none")
        distance = torch.linalg.vector_norm(x, dim=1)
        return loss + distance + torch.logsumexp(x, 1) + torch.var(x, 1) + x.prod(1)

    return Lambda(forward), (torch.randn(2, 5), torch.tensor([1, 3]))


# -- more than the batch is symbolic --------------------------------------------------------------

# Per model: the names of the symbolic axes of each input, and sizes to run it with.
Axes = tuple[dict[int, str], ...]
SYMBOLIC: dict[str, tuple[Callable[[], tuple[nn.Module, Example]], Axes, list[dict[str, int]]]] = {}


def symbolic(axes: Axes, *sizes: dict[str, int]) -> Callable[..., Any]:
    """Register an architecture whose inputs have these symbolic axes."""

    def register(make: Callable[[], tuple[nn.Module, Example]]) -> Any:
        SYMBOLIC[make.__name__] = make, axes, list(sizes)
        return make

    return register


@symbolic(({0: "batch", 1: "length"},), {"batch": 3, "length": 5}, {"batch": 1, "length": 9})
def decoder_of_any_length() -> tuple[nn.Module, Example]:
    return Decoder(), (torch.randint(0, 30, (2, 7)),)


@symbolic(({0: "batch", 2: "height", 3: "width"},), {"batch": 1, "height": 16, "width": 28})
def feature_pyramid() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        fine = self.a(x)
        coarse = self.b(torch.relu(fine))
        return self.c(fine) + functional.interpolate(self.d(coarse), size=fine.shape[-2:])

    layers = {
        "a": nn.Conv2d(3, 4, 3, 2, 1),
        "b": nn.Conv2d(4, 8, 3, 2, 1),
        "c": nn.Conv2d(4, 5, 1),
        "d": nn.Conv2d(8, 5, 1),
    }
    return Lambda(forward, **layers), (torch.randn(2, 3, 20, 24),)


@symbolic(({0: "batch", 2: "height", 3: "width"},), {"batch": 3, "height": 3, "width": 8})
def detection_head() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.head(x)
        batch, _, height, width = y.shape
        y = y.view(batch, 3, 6, height, width).permute(0, 1, 3, 4, 2)
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.stack((columns, rows), 2).float()
        centers = (y[..., :2].sigmoid() * 2 - 0.5 + places) * 8
        return torch.cat([centers, y[..., 2:].sigmoid()], -1).view(batch, -1, 6)

    return Lambda(forward, head=nn.Conv2d(4, 18, 1)), (torch.randn(2, 4, 5, 6),)


@symbolic(
    ({0: "batch", 1: "length"}, {0: "batch", 2: "past"}, {0: "batch", 2: "past"}),
    {"batch": 1, "length": 1, "past": 9},
    {"batch": 3, "length": 4, "past": 2},
)
def attention_with_a_cache() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        batch, length, _ = x.shape
        parts = self.qkv(x).chunk(3, -1)
        q, k, v = (t.view(batch, length, 2, 4).transpose(1, 2) for t in parts)
        k, v = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        last = torch.arange(length)[:, None] + keys.shape[2]
        allowed = torch.arange(k.shape[2])[None] <= last
        scores = (q @ k.transpose(-1, -2) / 2).masked_fill(~allowed, float("-inf"))
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, 8)
        return self.out(out), k, v

    layers = {"qkv": nn.Linear(8, 24), "out": nn.Linear(8, 8)}
    cache = torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 4)
    return Lambda(forward, **layers), (torch.randn(2, 3, 8), *cache)


@symbolic(({0: "batch", 2: "height", 3: "width"},), {"batch": 1, "height": 17, "width": 30})
def segmentation_by_pyramid_pooling() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = torch.relu(self.fine(x))
        deep = torch.relu(self.deep(fine))
        whole = functional.adaptive_avg_pool2d(deep, 1)
        corners = {"mode": "bilinear", "align_corners": True}
        whole = functional.interpolate(self.whole(whole), size=deep.shape[-2:], **corners)
        y = torch.cat([self.near(deep), self.far(deep), whole], 1)
        y = functional.interpolate(y, size=fine.shape[-2:], **corners)
        y = self.out(torch.cat([y, fine], 1))
        y = functional.interpolate(y, size=x.shape[-2:], **corners)
        return y, y.argmax(1)

    layers = {
        "fine": nn.Conv2d(3, 6, 3, 2, 1),
        "deep": nn.Conv2d(6, 8, 3, 2, 1),
        "near": nn.Conv2d(8, 4, 1),
        "far": nn.Conv2d(8, 4, 3, padding=2, dilation=2),
        "whole": nn.Conv2d(8, 4, 1),
        "out": nn.Conv2d(18, 5, 3, padding=1),
    }
    return Lambda(forward, **layers), (torch.randn(2, 3, 20, 24),)


@symbolic(({0: "batch", 1: "length"},), {"batch": 1, "length": 8}, {"batch": 3, "length": 12})
def patches_of_a_sequence() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        batch, length, channels = x.shape
        y = x.view(batch, length // 4, 4, channels).permute(0, 1, 3, 2).flatten(2)
        return self.mix(y).unflatten(-1, (2, channels)).flatten(1, 2)

    return Lambda(forward, mix=nn.Linear(12, 6)), (torch.randn(2, 16, 3),)


@symbolic(({0: "batch", 1: "length"},), {"batch": 1, "length": 3}, {"batch": 3, "length": 6})
def mixture_of_experts() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, width = x.shape
        y = x.reshape(-1, width)
        weights, places = self.gate(y).softmax(-1).topk(2, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        up = self.up.weight.view(4, width, 16)[places]
        down = self.down.weight.view(4, 16, width)[places]
        hidden = functional.silu(torch.einsum("nd,nkdh->nkh", y, up))
        out = torch.einsum("nkh,nkhd->nkd", hidden, down) * weights[..., None]
        return out.sum(1).view(batch, length, width), functional.one_hot(places, 4).sum((0, 1))

    layers = {
        "gate": nn.Linear(8, 4),
        "up": nn.Linear(16, 32, bias=False),
        "down": nn.Linear(8, 64, bias=False),
    }
    return Lambda(forward, **layers), (torch.randn(2, 5, 8),)


@symbolic(({0: "batch", 1: "length"},), {"batch": 1, "length": 4}, {"batch": 3, "length": 9})
def relative_shift() -> tuple[nn.Module, Example]:
    def forward(self: Any, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, 2, 4).transpose(1, 2)
        place = torch.arange(length - 1, -length, -1.0)
        parts = [place.sin(), place.cos(), (place / 7).sin(), (place / 7).cos()]
        scores = functional.pad(q @ torch.stack(parts), (1, 0)).view(batch, 2, -1, length)
        return scores[:, :, 1:].view(batch, 2, length, 2 * length - 1)[..., :length]

    return Lambda(forward, q=nn.Linear(8, 8)), (torch.randn(2, 6, 8),)

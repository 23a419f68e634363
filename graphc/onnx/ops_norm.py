"""Normalization (floor 8); 16-bit floats are computed in float32."""

from __future__ import annotations

from graphc.base.dims import Shape
from graphc.base.dtypes import DType, float32, float64
from graphc.ir.node import Tensor
from graphc.nn.normalization import local_response_norm
from graphc.onnx.context import Context, op
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.axes import normalize_axes, normalize_axis
from graphc.ops.promotion import cast
from graphc.ops.reduction import MEAN, SUM
from graphc.ops.reshape import split_axis, to_shape
from graphc.ops.view import broadcasted

multiply = elementwise.multiply
rsqrt = elementwise_math.rsqrt


def _work(dtype: DType) -> DType:
    return float64 if dtype is float64 else float32


def _widened(x: Tensor) -> Tensor:
    return cast(x, _work(x.dtype))


def _channels(c: Context, x: Tensor, k: int) -> Tensor:
    """Operand k, [C], so shaped that it broadcasts with x [N, C, *S], in its dtype."""
    found = cast(c.tensor(k), x.dtype)
    if found.shape != (x.shape[1],):
        c.bad(f"operand {k} is {found.type}, expected one value per channel ({x.shape[1]})")
    return to_shape(found, (x.shape[1], *(1,) * (x.ndim - 2)))


def _centered(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """x - mean, mean and variance over axes, which stay with size 1."""
    mean = MEAN(x, axes=axes, keepdims=True)
    centered = elementwise.subtract(x, mean)
    return centered, mean, MEAN(elementwise_math.square(centered), axes=axes, keepdims=True)


@op("BatchNormalization")
def batch_normalization(c: Context) -> list[Tensor]:
    """Per channel with given mean and variance, or in training with the batch's own."""
    given = c.tensor(0)
    if given.ndim < 2:
        c.bad(f"operand 0 is {given.type}, expected [N, C, *S]")
    if c.attribute("spatial", 1) != 1:
        c.refuse("spatial=0 (a mean per element) is not supported")
    x = _widened(given)
    scale, bias, mean, variance = (_channels(c, x, k) for k in (1, 2, 3, 4))
    epsilon = c.attribute("epsilon")
    if not c.attribute("training_mode", 0):
        if c.version >= 14 and c.wants(1):
            c.bad("it names running_mean, which exists with training_mode=1 only")
        factor = multiply(scale, rsqrt(variance + epsilon))
        shift = elementwise.subtract(bias, multiply(mean, factor))
        return [cast(elementwise.add(multiply(x, factor), shift), given.dtype)]
    axes = tuple(a for a in range(x.ndim) if a != 1)
    centered, own_mean, own_variance = _centered(x, axes)
    out = multiply(multiply(centered, rsqrt(own_variance + epsilon)), scale)
    momentum = c.attribute("momentum")
    running = []
    for k, (old, new) in enumerate(((mean, own_mean), (variance, own_variance)), 3):
        mixed = elementwise.add(
            multiply(to_shape(old, (x.shape[1],)), momentum),
            multiply(to_shape(new, (x.shape[1],)), 1.0 - momentum),
        )
        running.append(cast(mixed, c.tensor(k).dtype))
    return [cast(elementwise.add(out, bias), given.dtype), *running]


@op("InstanceNormalization")
def instance_normalization(c: Context) -> Tensor:
    """Per example and channel over the spatial axes."""
    given = c.tensor(0)
    x = _widened(given)
    centered, _, variance = _centered(x, tuple(range(2, x.ndim)))
    normal = multiply(centered, rsqrt(variance + c.attribute("epsilon")))
    out = elementwise.add(multiply(normal, _channels(c, x, 1)), _channels(c, x, 2))
    return cast(out, given.dtype)


@op("GroupNormalization")
def group_normalization(c: Context) -> Tensor:
    """Per example and group of channels; scale and bias per group before version 21."""
    given = c.tensor(0)
    x = _widened(given)
    groups = c.attribute("num_groups")
    channels = x.shape[1] if x.ndim > 1 else 0
    if groups < 1 or channels // groups * groups != channels:
        c.bad(f"{channels} channels do not split into {groups} groups")
    apart = split_axis(x, 1, (groups, channels // groups))
    centered, _, variance = _centered(apart, tuple(range(2, apart.ndim)))
    normal = to_shape(multiply(centered, rsqrt(variance + c.attribute("epsilon"))), x.shape)
    if c.version >= 21:
        scale, bias = _channels(c, x, 1), _channels(c, x, 2)
    else:
        scale, bias = (_per_group(c, x, k, groups) for k in (1, 2))
    return cast(elementwise.add(multiply(normal, scale), bias), given.dtype)


def _per_group(c: Context, x: Tensor, k: int, groups: int) -> Tensor:
    found = cast(c.tensor(k), x.dtype)
    if found.shape != (groups,):
        c.bad(f"operand {k} is {found.type}, expected one value per group ({groups})")
    repeated: Shape = (groups, x.shape[1] // groups)
    wide = broadcasted(to_shape(found, (groups, 1)), repeated)
    return to_shape(wide, (x.shape[1], *(1,) * (x.ndim - 2)))


def _stashed(c: Context, x: Tensor) -> Tensor:
    """x in the dtype that stash_type asks for: float32, or its own."""
    return cast(x, float32) if c.attribute("stash_type", 1) == 1 else x


@op("LayerNormalization")
def layer_normalization(c: Context) -> list[Tensor]:
    """Over the axes from `axis` on; also the mean and one over the standard deviation."""
    given = c.tensor(0)
    x = _stashed(c, given)
    first = normalize_axis(c.op, x, c.attribute("axis"))
    centered, mean, variance = _centered(x, tuple(range(first, x.ndim)))
    inverse = rsqrt(variance + c.attribute("epsilon"))
    out = multiply(cast(multiply(centered, inverse), given.dtype), c.tensor(1))
    if c.has(2):
        out = elementwise.add(out, c.tensor(2))
    return [out, mean, inverse]


@op("RMSNormalization")
def rms_normalization(c: Context) -> Tensor:
    """x / sqrt(mean(x**2) + epsilon) * scale over the axes from `axis` on."""
    given, scale = c.tensor(0), c.tensor(1)
    x = _stashed(c, given)
    first = normalize_axis(c.op, x, c.attribute("axis"))
    axes = tuple(range(first, x.ndim))
    squares = MEAN(elementwise_math.square(x), axes=axes, keepdims=True)
    normal = multiply(x, rsqrt(squares + c.attribute("epsilon")))
    return multiply(cast(normal, scale.dtype), scale)


@op("MeanVarianceNormalization")
def mean_variance_normalization(c: Context) -> Tensor:
    """(x - mean) / (standard deviation + 1e-9) over axes."""
    given = c.tensor(0)
    x = _widened(given)
    axes = tuple(sorted(normalize_axes(c.op, x, c.attribute("axes"))))
    centered, _, variance = _centered(x, axes)
    spread = elementwise_math.sqrt(variance) + 1e-9
    return cast(elementwise.divide(centered, spread), given.dtype)


@op("LpNormalization")
def lp_normalization(c: Context) -> Tensor:
    """x over its 1-norm or 2-norm along an axis; 0 where that is 0."""
    given = c.tensor(0)
    x = _widened(given)
    axis = normalize_axis(c.op, x, c.attribute("axis"))
    p = c.attribute("p")
    if p == 1:
        norm = SUM(rounding.abs(x), axes=(axis,), keepdims=True)
    elif p == 2:
        norm = elementwise_math.sqrt(SUM(elementwise_math.square(x), axes=(axis,), keepdims=True))
    else:
        c.bad(f"attribute p is {p}, expected 1 or 2")
    zero = logical.equal(norm, 0.0)
    safe = elementwise.where(zero, 1.0, norm)
    return cast(elementwise.where(zero, 0.0, elementwise.divide(x, safe)), given.dtype)


@op("LRN")
def lrn(c: Context) -> Tensor:
    """Local response normalization across channels."""
    given = c.tensor(0)
    out = local_response_norm(
        _widened(given),
        c.attribute("size"),
        alpha=c.attribute("alpha"),
        beta=c.attribute("beta"),
        bias=c.attribute("bias"),
    )
    return cast(out, given.dtype)

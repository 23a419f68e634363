"""Encoded pictures (floor 8): `ImageDecoder` outside of the graph.

A file of a picture becomes pixels on the host. What is known when a model is read is decoded then;
a picture that is an input of the model is not: there the decoded tensor becomes the input of the
graph, under the name that the model gives it, and whoever feeds the graph decodes
(`graphc.onnx.backend` does).

Only the formats that ONNX names are tried, nothing that lies in the file is run, and the size that
a file claims is checked before its pixels are. The package Pillow reads them; it is loaded with the
first picture.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.helper

from graphc.base.dims import symbols
from graphc.base.dtypes import Array, uint8
from graphc.base.errors import FormatError, UnsupportedError, message
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Result, op
from graphc.onnx.refusal import bad, shown, unsupported
from graphc.onnx.values import TensorValue, of_array, sources

PIXELS = 1 << 26  # that one picture may claim to have: 8192 times 8192

_CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}
# The formats that ONNX names, in Pillow's words; PPM stands for all of PNM.
_FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Pillow's modes of at most 8 bits per channel: what has more would be cut to 8 without a word.
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_UINT8 = 2  # as an element type of ONNX


@dataclass(frozen=True)
class Picture:
    """An input of a model that a node decodes.

    input: the name of the encoded bytes, uint8 [n]. output: that of the decoded tensor, uint8
    [height, width, channels]. pixel_format: "RGB", "BGR" or "Grayscale". where: the node's place.
    """

    input: str
    output: str
    pixel_format: str
    where: str

    def declared(self) -> Any:
        """The decoded tensor as an input of a model: its height and width are symbolic."""
        shape = [f"{self.output}_height", f"{self.output}_width", _CHANNELS[self.pixel_format]]
        return onnx.helper.make_tensor_value_info(self.output, _UINT8, shape)

    def decode(self, encoded: Any) -> Array:
        """The pixels of an encoded picture. Raises FormatError and UnsupportedError."""
        return pixels(np.asarray(encoded), self.pixel_format, self.where)


def pictures_of(model: Any, fixed: Collection[str] = ()) -> Iterator[Picture]:
    """The inputs of a model (a ModelProto) that nodes of its main graph decode, but for those whose
    values are fixed.
    """
    graph = model.graph
    inputs = {i.name for i in graph.input}
    encoded = inputs - {t.name for t in graph.initializer} - set(fixed)
    if any(f.name == "ImageDecoder" for f in model.functions):
        return  # perhaps another operator of that name
    for k, node in enumerate(graph.node):
        if node.op_type != "ImageDecoder" or len(node.input) != 1 or len(node.output) != 1:
            continue
        (name,), (output,) = node.input, node.output
        words = [a.s.decode(errors="replace") for a in node.attribute if a.name == "pixel_format"]
        word = words[0] if words else "RGB"
        # What does not fit is left to the walk over the nodes, which says so.
        if name in encoded and output and output not in inputs and word in _CHANNELS:
            label = shown(node.name) if node.name else f"{k}"
            where = f"graph {shown(graph.name)}: node {label} (ImageDecoder)"
            yield Picture(name, output, word, where)


def is_read(value: TensorValue, outputs: Sequence[Tensor]) -> bool:
    """Whether outputs depend on an input, or on a size of it that has a name."""
    names, sizes = sources(outputs)
    own = {s.name for s in symbols(value.shape)}
    return value.tensor.attr("name") in names or not own.isdisjoint(sizes)


def pixels(encoded: Array, pixel_format: str, where: str) -> Array:
    """A picture as uint8 [height, width, channels], rows from the top.

    encoded: the bytes of a file, uint8 [n]. Of several pictures in a file the first is read;
    transparency is left out. Raises FormatError for what is no picture and for one with too many
    pixels; UnsupportedError for more than 8 bits per channel, and where Pillow is not installed.
    """
    if encoded.dtype != np.uint8 or encoded.ndim != 1:
        what = f"{encoded.dtype}{list(encoded.shape)}"
        bad(where, f"the encoded picture is {what}, expected uint8[n]", _HINT)
    if importlib.util.find_spec("PIL") is None:
        raise UnsupportedError(
            message(
                f"{where}: the package Pillow, which decodes pictures, is not installed",
                at="",
                hint="pip install graphc[onnx]",
            )
        )
    image_module = importlib.import_module("PIL.Image")
    try:
        with image_module.open(io.BytesIO(encoded.tobytes()), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > PIXELS:
                bad(where, f"a picture of {width} × {height} pixels (at most {PIXELS})", _SMALLER)
            if image.mode not in _MODES:
                what = f"a picture of mode {image.mode!r}, with more than 8 bits per channel"
                unsupported(where, what, "save it with 8 bits per channel")
            return _converted(image, pixel_format)
    except (FormatError, UnsupportedError):
        raise
    except Exception as error:  # Pillow's readers raise nearly anything for bytes from strangers
        kind = type(error).__name__
        reason = "its format is unknown" if kind == "UnidentifiedImageError" else f"{kind}: {error}"
        what = f"no picture that can be decoded: {reason[:200]}"
        raise FormatError(message(f"{where}: {what}", at="", hint=_HINT)) from error


_HINT = "give the bytes of a BMP, JPEG, JPEG 2000, PNM, PNG, TIFF or WebP file as uint8[n]"
_SMALLER = "give a smaller picture"


def _converted(image: Any, pixel_format: str) -> Array:
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns where such a palette becomes RGB at once
    if pixel_format == "Grayscale":
        return np.array(image.convert("L"))[:, :, np.newaxis]
    found = np.array(image.convert("RGB"))
    return np.ascontiguousarray(found[:, :, ::-1]) if pixel_format == "BGR" else found


@op("ImageDecoder", since=20)
def image_decoder(c: Context) -> Result:
    """An encoded picture as pixels: decoded here where it is known, else an input of the graph."""
    word = c.attribute("pixel_format")
    if word not in _CHANNELS:
        c.bad(f"attribute pixel_format is {word!r:.40}, expected RGB, BGR or Grayscale")
    value = c.importer.decoded.get(c.outputs[0]) if c.scope.depth == 0 else None
    if value is not None:
        if c.value(0).ndim != 1:
            c.bad(f"operand 0 has {c.value(0).ndim} dims, expected one")
        return value
    return of_array(pixels(c.known(0, "the encoded picture"), word, c.where), uint8)

"""Models that decode pictures: on the host, where they are known or before the graph runs."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image, features

import graphc
from graphc.onnx.backend import Backend
from graphc.onnx.pictures import pixels
from tests.onnx.models import data_of, function, model, node, tensor_input

UINT8, FLOAT = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
RGB = np.random.default_rng(5).integers(0, 256, (5, 7, 3), dtype=np.uint8)
PLACE = "graph 'main': node 'pixels' (ImageDecoder): "


def encoded(image: Any, kind: str = "png", **settings: Any) -> Any:
    """The bytes of a picture as an array. Skips where Pillow was built without the format."""
    codec = {"jpeg": "jpg", "jpeg2000": "jpg_2000", "webp": "webp"}.get(kind)
    if codec is not None and not features.check(codec):
        pytest.skip(f"this build of Pillow has no {kind}")
    with io.BytesIO() as file:
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(file, kind, **settings)
        return np.frombuffer(file.getvalue(), np.uint8)


def decoding(nodes: Sequence[Any], *outputs: str, **settings: Any) -> Any:
    """A model whose input "data" is an encoded picture."""
    infos = [helper.make_empty_tensor_value_info(n) for n in outputs]
    return model(nodes, [tensor_input("data", ["n"], UINT8)], infos, **settings)


def decoder(**attributes: Any) -> Any:
    return node("ImageDecoder", ["data"], ["pixels"], **attributes)


def loaded(proto: Any, folder: Path, **settings: Any) -> graphc.Graph:
    (folder / "model.onnx").write_bytes(data_of(proto))
    return graphc.onnx.load(folder / "model.onnx", **settings)


@pytest.mark.parametrize("kind", ["bmp", "png", "ppm", "tiff", "jpeg2000"])
def test_formats(kind: str) -> None:
    settings = {"irreversible": False} if kind == "jpeg2000" else {}
    (found,) = Backend.run_model(decoding([decoder()], "pixels"), [encoded(RGB, kind, **settings)])
    np.testing.assert_array_equal(found, RGB)


def test_a_lossless_webp() -> None:
    data = encoded(RGB, "webp", lossless=True)
    np.testing.assert_array_equal(
        Backend.run_model(decoding([decoder()], "pixels"), [data])[0], RGB
    )


def test_one_model_for_pictures_of_all_sizes() -> None:
    nodes = [
        decoder(pixel_format="BGR"),
        node("Cast", ["pixels"], ["floats"], to=FLOAT),
        node("ReduceMean", ["floats", "axes"], ["y"], keepdims=0),
    ]
    proto = decoding(nodes, "y", initializers={"axes": np.array([0, 1])})
    prepared = Backend.prepare(proto)
    for picture in (RGB, RGB[:2, :3], np.vstack([RGB, RGB])):
        (found,) = prepared.run([encoded(picture)])
        np.testing.assert_allclose(found, picture.mean((0, 1))[::-1], rtol=1e-6)
    assert len(prepared._compiled) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("word", ["RGB", "BGR", "Grayscale"])
def test_every_kind_of_picture_has_the_channels_asked_for(mode: str, word: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    if mode == "P":  # colours that are transparent are colours here
        data = encoded(picture, transparency=bytes(range(256)))
    else:
        data = encoded(picture, "tiff" if mode == "CMYK" else "png")
    (found,) = Backend.run_model(decoding([decoder(pixel_format=word)], "pixels"), [data])
    expected = np.asarray(picture.convert("L" if word == "Grayscale" else "RGB"))
    if word == "Grayscale":
        assert found.shape == (5, 7, 1)
        np.testing.assert_allclose(found[..., 0], expected, atol=0)
    else:
        np.testing.assert_array_equal(found, expected[..., ::-1] if word == "BGR" else expected)


# -- loading --------------------------------------------------------------------------------------


def test_the_pixels_become_the_input(tmp_path: Path) -> None:
    proto = decoding([decoder(), node("Cast", ["pixels"], ["y"], to=FLOAT)], "y")
    graph = loaded(proto, tmp_path)
    ((name, tensor),) = graph.inputs
    assert name == "pixels" and str(tensor.type) == "u8[pixels_height, pixels_width, 3]"
    with graphc.Session() as session:
        np.testing.assert_array_equal(session.run(graph["y"], {tensor: RGB}), RGB)
    graph = loaded(proto, tmp_path, sizes={"pixels_height": 5, "pixels_width": 7})
    assert graph["y"].shape == (5, 7, 3)


def test_a_picture_that_is_given_is_decoded_when_the_model_is_read(tmp_path: Path) -> None:
    nodes = [decoder(), node("Cast", ["pixels"], ["y"], to=FLOAT)]
    given = loaded(decoding(nodes, "y"), tmp_path, constants={"data": encoded(RGB)})
    inside = model(nodes, [], [helper.make_empty_tensor_value_info("y")], {"data": encoded(RGB)})
    for graph in (given, loaded(inside, tmp_path)):
        assert not graph.inputs
        np.testing.assert_array_equal(graph.evaluate({})["y"], RGB)


def test_encoded_bytes_stay_an_input_where_they_are_used_besides(tmp_path: Path) -> None:
    nodes = [
        decoder(),
        node("ImageDecoder", ["data"], ["grey"], pixel_format="Grayscale"),
        node("Shape", ["data"], ["length"]),
    ]
    proto = decoding(nodes, "pixels", "grey", "length")
    assert [n for n, _ in loaded(proto, tmp_path).inputs] == ["data", "pixels", "grey"]
    data = encoded(RGB)
    found = Backend.run_model(proto, {"data": data})
    assert [a.shape for a in found] == [(5, 7, 3), (5, 7, 1), (1,)]
    assert found[2] == [data.size]


def test_a_size_of_the_picture_that_decides() -> None:
    """A sequence of rows: compiled once per height."""
    nodes = [
        decoder(),
        node("SplitToSequence", ["pixels", "one"], ["rows"], axis=0),
        node("SequenceLength", ["rows"], ["y"]),
    ]
    proto = decoding(nodes, "y", initializers={"one": np.array(1)})
    prepared = Backend.prepare(proto)
    assert prepared.run([encoded(RGB)]) == (5,)
    assert prepared.run([encoded(RGB[:3])]) == (3,)


def test_inside_a_function_the_picture_must_be_known(tmp_path: Path) -> None:
    inner = function("read", ["d"], ["p"], [node("ImageDecoder", ["d"], ["p"])])
    proto = decoding(
        [node("read", ["data"], ["y"], domain="own")],
        "y",
        functions=[inner],
        opsets={"": 21, "own": 1},
    )
    with pytest.raises(graphc.UnsupportedError) as found:
        loaded(proto, tmp_path)
    assert "(ImageDecoder): the encoded picture must be known" in str(found.value)
    assert "constants={'data': ...}" in str(found.value)
    prepared = Backend.prepare(proto)
    for picture in (RGB, RGB[:3]):
        np.testing.assert_array_equal(prepared.run([encoded(picture)])[0], picture)


# -- what is no picture ---------------------------------------------------------------------------


def refusal(data: Any, kind: type[graphc.GraphcError] = graphc.FormatError) -> str:
    """What is said of an encoded picture: the same of one that is fed, and of one in the file."""
    with pytest.raises(kind) as fed:
        Backend.run_model(decoding([decoder()], "pixels"), [data])
    with pytest.raises(kind) as read:
        infos = [helper.make_empty_tensor_value_info("pixels")]
        Backend.prepare(model([decoder()], [], infos, {"data": data}))
    assert str(fed.value) == str(read.value)
    assert str(fed.value).startswith(PLACE)
    return str(fed.value).removeprefix(PLACE)


def of_bytes(data: bytes) -> Any:
    return np.frombuffer(data, np.uint8)


def test_no_pictures() -> None:
    whole = encoded(RGB)
    for data in (of_bytes(b""), of_bytes(b"text"), of_bytes(bytes(1000)), whole[1:], whole[:7]):
        assert refusal(data).startswith("no picture that can be decoded: its format is unknown\n")
    for data in (whole[:60], encoded(RGB, "bmp")[:100]):
        assert refusal(data).startswith("no picture that can be decoded: OSError")
    gif = encoded(RGB, "gif")  # Pillow reads it, and ONNX does not name it
    assert "its format is unknown\n  hint: give the bytes of a BMP, JPEG, JPEG 2000" in refusal(gif)


def test_damaged_pictures_end_in_an_error_or_a_picture() -> None:
    rng = np.random.default_rng(3)
    refused = 0
    for kind in ("png", "bmp", "tiff", "jpeg", "jpeg2000", "webp", "ppm"):
        data = encoded(np.tile(RGB, (3, 3, 1)), kind)
        for _ in range(40):
            damaged = data.copy()
            damaged[rng.integers(0, data.size, 4)] = rng.integers(0, 256, 4)
            try:
                found = pixels(damaged, "RGB", "here")
            except graphc.FormatError as error:
                assert str(error).startswith("here: ")
                refused += 1
            else:
                assert found.dtype == np.uint8 and found.ndim == 3
    assert refused > 40


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("size", ["8193 8192", "12000 12000", "30000 30000"])
def test_the_size_is_checked_before_the_pixels(size: str) -> None:
    text = refusal(of_bytes(f"P6 {size} 255\n".encode()))
    assert "pixels" in text


def test_more_than_8_bits() -> None:
    deep = Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3))
    text = refusal(encoded(deep), graphc.UnsupportedError)
    assert text.startswith("a picture of mode 'I;16', with more than 8 bits per channel")


def test_wrong_operands_and_attributes() -> None:
    proto = decoding([decoder()], "pixels")
    with pytest.raises(graphc.FormatError, match="the encoded picture is float32") as found:
        Backend.run_model(proto, [np.zeros(3, np.float32)])
    assert str(found.value).startswith(PLACE)
    with pytest.raises(graphc.GraphError, match=r"the inputs \['data'\] are missing"):
        Backend.prepare(proto).run([])
    with pytest.raises(graphc.FormatError, match="pixel_format is 'CMYK', expected RGB, BGR or"):
        Backend.prepare(decoding([decoder(pixel_format="CMYK")], "pixels"))
    square = model([decoder()], [tensor_input("data", [2, 3], UINT8)], [])
    with pytest.raises(graphc.FormatError, match="operand 0 has 2 dims, expected one"):
        Backend.prepare(square)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(graphc.UnsupportedError, match="Pillow, which decodes") as found:
        pixels(encoded(RGB), "RGB", "here")
    assert "pip install graphc[onnx]" in str(found.value)

"""Arguments of calls: what is taken, what is converted, what is refused with which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.base.dims import Dim
from graphc.base.dtypes import ALL, DType, host_bfloat16
from graphc.base.errors import DTypeError, GraphError, ShapeError
from graphc.runtime.caller import Caller, NativeCaller
from graphc.runtime.signature import ArraySpec

n, m = Dim("n"), Dim("m")


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_every_dtype_passes_the_quick_check(native: Any, dtype: DType) -> None:
    made = native({"x": (dtype, (n, 3))}, {"y": (dtype, (3, n))})
    assert isinstance(made, NativeCaller)
    if not made.signature.has_foreign_dtypes:
        x = np.zeros((4, 3), ArraySpec("x", dtype, ()).host)
        (y,) = made._attempt(x)
        assert y.shape == (3, 4) and y.dtype == x.dtype


def accepted(made: Caller, *args: object) -> bool:
    assert isinstance(made, NativeCaller)
    return type(made._attempt(*args)) is not int


def test_what_the_quick_check_refuses(native: Any) -> None:
    made = native({"x": ("f32", (n, 3)), "k": ("i64", ())})
    x, k = np.zeros((4, 3), np.float32), np.zeros((), np.int64)
    assert accepted(made, x, k)
    assert accepted(made, np.zeros((0, 3), np.float32), k)
    buffer = np.zeros(100, np.uint8)
    for bad in (
        x.astype(np.float64),
        x.astype(">f4"),
        x.view(np.int32),
        np.zeros((3, 4), np.float32).T,
        np.zeros((8, 3), np.float32)[::2],
        np.zeros((4, 6), np.float32)[:, ::2],
        np.zeros((4, 4), np.float32),
        np.zeros((4, 3, 1), np.float32),
        np.zeros((4,), np.float32),
        buffer[1:49].view(np.float32).reshape(4, 3),
        x.view(np.recarray),
        [[1.0, 2.0, 3.0]],
        None,
        1.0,
        np.float32(1),
        np.zeros((4, 3), object),
    ):
        assert not accepted(made, bad, k), repr(bad)
    assert not accepted(made, x, np.int64(3))
    assert not accepted(made, x, 3)
    assert not accepted(made, x, np.zeros(1, np.int64))
    assert not accepted(made, x)
    assert not accepted(made, x, k, k)
    assert not accepted(made)


def test_the_slow_path_takes_what_can_be_taken(make: Any) -> None:
    double = make({"x": ("f32", (n,))}, {"y": ("f32", (n,))}, "double", single=True).function
    for x in (
        [1, 2, 3],
        [1.0, 2.0, 3.0],
        (True, False),
        [],
        range(3),
        np.arange(3, dtype=np.float16),
        np.arange(3, dtype=np.int8),
        np.arange(3, dtype=">f4"),
        np.arange(6, dtype=np.float32)[::2],
        np.zeros(50, np.uint8)[1:41].view(np.float32),
        np.arange(3, dtype=np.float32).view(np.recarray),
        np.broadcast_to(np.float32(3), (4,)),
    ):
        assert double(x).tolist() == (2 * np.asarray(x, np.float32)).tolist(), repr(x)
    read_only = np.arange(3, dtype=np.float32)
    read_only.flags.writeable = False
    assert double(read_only).tolist() == [0, 2, 4]
    assert double(x=[1.0]).tolist() == [2]


def test_equal_dtypes_that_are_other_objects(make: Any) -> None:
    made = make({"x": ("i64", (n,))}, {"y": ("i64", (n,))}, single=True)
    made.function(np.zeros(3, np.longlong))
    made.function(np.zeros(3, np.dtype("i8", metadata={"a": 1})))
    with pytest.raises(DTypeError):
        made.function(np.zeros(3, np.uint64))


def test_zero_dimensional_arguments(make: Any) -> None:
    made = make({"x": ("f32", ()), "k": ("i64", ())}, {"y": ("f32", ())}, single=True)
    for x in (1.0, 1, True, np.float32(2), np.array(2, np.float32), np.zeros((), ">f4")):
        assert made.function(x, 3).shape == ()


@pytest.mark.parametrize(
    ("args", "keywords", "error", "fragments"),
    [
        (
            (np.zeros((2, 3)), 1),
            {},
            DTypeError,
            ["x: expected float32[n, 3], got float64", "astype('float32')"],
        ),
        (
            (np.zeros((2, 4), np.float32), 1),
            {},
            ShapeError,
            ["x: expected float32[n, 3], got float32[2, 4]"],
        ),
        (
            (np.zeros(3, np.float32), 1),
            {},
            ShapeError,
            ["x: expected float32[n, 3], got float32[3]"],
        ),
        (
            (np.zeros((2, 3), np.float32), 1.5),
            {},
            DTypeError,
            ["k: expected uint8[], got float of float64"],
        ),
        ((np.zeros((2, 3), np.float32), 300), {}, DTypeError, ["k: expected uint8[]", "300"]),
        ((np.zeros((2, 3), np.float32), -1), {}, DTypeError, ["k: expected uint8[]", "-1"]),
        ((np.zeros((2, 3), np.float32), 10**30), {}, DTypeError, ["k: expected uint8[]"]),
        ((np.zeros((2, 3), np.float32), "a"), {}, DTypeError, ["k: expected uint8[]", "str"]),
        (([[1.0], [1.0, 2.0]], 1), {}, DTypeError, ["x: expected float32[n, 3], got list"]),
        (([[1.0, 2.0, 1j]], 1), {}, DTypeError, ["x: expected float32[n, 3]", "complex"]),
        ((None, 1), {}, DTypeError, ["x: expected float32[n, 3], got NoneType"]),
        ((1,), {}, GraphError, ["f takes 2 arrays (x, k)", "missing: k"]),
        ((1, 2, 3), {}, GraphError, ["f takes 2 arrays (x, k), got 3"]),
        ((1,), {"z": 1}, GraphError, ["f takes 2 arrays (x, k), none of them is named 'z'"]),
        ((1, 2), {"x": 1}, GraphError, ["two values were given for 'x'"]),
    ],
)
def test_wrong_arguments(
    make: Any, args: Any, keywords: Any, error: type, fragments: list[str]
) -> None:
    function = make({"x": ("f32", (n, 3)), "k": ("u8", ())}, {"y": ("f32", (n,))}).function
    with pytest.raises(error) as caught:
        function(*args, **keywords)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_python_numbers_do_not_become_infinite(make: Any, dtype: str) -> None:
    function = make({"x": (dtype, (n,))}, {"y": ("f32", ())}).function
    function([float("inf"), -float("inf"), float("nan"), 1e-300, 6e4, 0.1])
    if dtype != "f64":
        with pytest.raises(DTypeError, match=r"x: expected .* got values up to 1e\+300"):
            function([1e300])
    if dtype == "f16":
        with pytest.raises(DTypeError, match=r"x: expected .* got values up to 70000"):
            function([70000])


def test_symbols_agree(make: Any) -> None:
    made = make(
        {"x": ("f32", (n, m)), "y": ("f32", (m,)), "z": ("f32", (2 * n + 1, n * m))},
        {"o": ("f32", (n + m, 7, n // 2))},
    )

    def call(a: tuple[int, int], b: int, c: tuple[int, int]) -> Any:
        return made.function(
            np.zeros(a, np.float32), np.zeros(b, np.float32), np.zeros(c, np.float32)
        )

    assert call((3, 4), 4, (7, 12))[0].shape == (7, 7, 1)
    assert call((0, 4), 4, (1, 0))[0].shape == (4, 7, 0)
    with pytest.raises(
        ShapeError, match=r"(?s)y: expected float32\[m\], got float32\[5\].*m is 4 by dim 1 of x"
    ):
        call((3, 4), 5, (7, 12))
    with pytest.raises(ShapeError, match=r"z: expected"):
        call((3, 4), 4, (8, 12))
    with pytest.raises(ShapeError, match=r"z: expected"):
        call((3, 4), 4, (7, 13))


def test_symbols_told_by_other_sizes(make: Any) -> None:
    made = make(
        {"x": ("f32", (2 * n + 3,)), "y": ("f32", (m - 1,)), "z": ("f32", (m, n))},
        {"o": ("i8", (n, m))},
        single=True,
    )

    def call(a: int, b: int, c: tuple[int, int]) -> Any:
        return made.function(
            np.zeros(a, np.float32), np.zeros(b, np.float32), np.zeros(c, np.float32)
        ).shape

    assert call(7, 4, (5, 2)) == (2, 5)
    with pytest.raises(ShapeError):
        call(8, 4, (5, 2))
    alone = make({"x": ("f32", (2 * n + 3,))}, {"o": ("i8", (n,))}, single=True).function
    assert alone(np.zeros(9, np.float32)).shape == (3,)
    assert alone(np.zeros(3, np.float32)).shape == (0,)
    for length in (8, 1, 0):
        with pytest.raises(ShapeError, match="x: expected"):
            alone(np.zeros(length, np.float32))


def test_negative_quotients_round_down(make: Any) -> None:
    made = make(
        {"x": ("f32", (n,))}, {"o": ("i8", ((n - 5) // 4 + 3, (7 * n + 2) // (n + 1)))}, single=True
    )
    for length in range(12):
        expected = ((length - 5) // 4 + 3, (7 * length + 2) // (length + 1))
        assert made.function(np.zeros(length, np.float32)).shape == expected


def test_bounds(make: Any) -> None:
    k = Dim("k", min=2, max=12, multiple_of=3)
    function = make({"x": ("f32", (k,))}).function
    for length in (3, 6, 9, 12):
        function(np.zeros(length, np.float32))
    for length in (0, 1, 2, 4, 11, 15):
        with pytest.raises(
            ShapeError, match=f"k must be from 2 to 12 and a multiple of 3, it is {length}"
        ):
            function(np.zeros(length, np.float32))


def test_a_size_that_no_input_tells(make: Any) -> None:
    with pytest.raises(GraphError, match="no input tells the size of the dim 'm'"):
        make({"x": ("f32", (n + m,)), "y": ("f32", (n,))})
    with pytest.raises(GraphError, match="'n'"):
        make({}, {"y": ("f32", (n,))})


def test_bfloat16(make: Any) -> None:
    made = make({"x": ("bf16", (n,))}, {"y": ("bf16", (n,))}, single=True)
    host = host_bfloat16()
    values = np.array([1.0, 1.5, np.nan, np.inf], np.float32)
    for x in (values, [1.0, 2.0], [1, 2], values.astype(host or np.float32)):
        y = made.function(x)
        assert y.dtype == (host or np.float32) and y.shape == (len(x),)
    with pytest.raises(DTypeError, match="values that bfloat16 has not"):
        made.function(np.array([1.001], np.float32))
    with pytest.raises(DTypeError):
        made.function(np.zeros(3, np.uint16))


def test_bfloat16_without_ml_dtypes(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("graphc.runtime.signature",):
        monkeypatch.setattr(f"{module}.host_bfloat16", lambda: None)
    made = make({"x": ("bf16", (n,))}, {"y": ("bf16", (n,)), "z": ("f32", ())})
    y, z = made.function(np.array([1.0, 2.0, 3.0], np.float32))
    assert y.dtype == np.float32 and y.shape == (3,) and z.shape == ()
    with pytest.raises(DTypeError):
        made.function(np.zeros(3, np.uint16))
    single = make({"x": ("bf16", (n,))}, {"y": ("bf16", (n,))}, single=True)
    assert single.function([1.0]).dtype == np.float32

"""Variables of a session: values, assignment, checkpoints that survive kills, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.runtime import checkpoint


def model(prefix: str = "") -> tuple[list[graphc.Tensor], graphc.Tensor]:
    w = graphc.variable(np.arange(6, dtype=np.float32).reshape(2, 3), name=f"{prefix}w")
    b = graphc.variable(np.float64(0.5), name=f"{prefix}b")
    n = graphc.variable(np.int64(0), name=f"{prefix}n")
    return [w, b, n], graphc.sum(w) * b.astype("float32") + n.astype("float32")


def test_value_is_a_copy(session: graphc.Session) -> None:
    (w, _, n), _ = model()
    value = session.value(w)
    value[:] = -1
    assert session.value(w).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert session.value(n).shape == () and session.value(n).dtype == np.int64


def test_assign_converts_and_checks(session: graphc.Session) -> None:
    (w, b, n), y = model()
    session.assign(w, [[1, 2, 3], [4, 5, 6]])
    session.assign(b, 2)
    session.assign(n, np.int64(7))
    assert session.run(y) == 21 * 2 + 7
    session.assign(w, np.ones((3, 2), np.float32).T)
    for value, error in (
        (np.ones((3, 2), np.float32), graphc.ShapeError),
        (np.ones((2, 3)), graphc.DTypeError),
        (None, graphc.DTypeError),
    ):
        with pytest.raises(error, match=r"w[\s\S]*test_state.py"):
            session.assign(w, value)
    with pytest.raises(graphc.GraphError, match="expected a variable"):
        session.assign(y, 1.0)
    with pytest.raises(graphc.GraphError, match="expected a variable, got a str"):
        session.value("w")
    assert session.value(w).tolist() == [[1.0] * 3] * 2


def test_equal_first_values_are_changed_apart(session: graphc.Session) -> None:
    """Variables share the memory of their first value until something is written."""
    first = np.arange(4, dtype=np.float32)
    a, b, c = (graphc.variable(first, name=name) for name in "abc")
    read = session.function([], [a + 0, b + 0, c + 0])
    step = session.function([], a * 2, updates={a: a + 1})
    assert [v.tolist() for v in read()] == [first.tolist()] * 3
    session.assign(b, first - 1)
    assert step().tolist() == (first * 2).tolist()
    assert step().tolist() == (first * 2 + 2).tolist()
    expected = [(first + 2).tolist(), (first - 1).tolist(), first.tolist()]
    assert [v.tolist() for v in read()] == expected
    with graphc.Session() as other:
        assert [other.value(v).tolist() for v in (a, b, c)] == [first.tolist()] * 3


def test_assign_between_calls_of_an_updating_function(session: graphc.Session) -> None:
    (w, _, n), _ = model()
    f = session.function([], w, updates={w: w * 2, n: n + 1})
    for k in range(5):
        session.assign(w, np.full((2, 3), k, np.float32))
        assert (f() == k).all()
        assert (session.value(w) == 2 * k).all()
    assert session.value(n) == 5


# -- checkpoints ---------------------------------------------------------------


def test_save_and_restore(tmp_path: Path) -> None:
    variables, y = model()
    with graphc.Session() as first:
        first.function([], y, updates={variables[2]: variables[2] + 3})()
        first.assign(variables[0], np.full((2, 3), 9, np.float32))
        first.save(tmp_path / "state.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
    again, y2 = model()  # as another process would declare it
    with graphc.Session() as second:
        for v in again:
            second.value(v)
        second.restore(tmp_path / "state.safetensors")
        assert second.value(again[0]).tolist() == [[9] * 3] * 2
        assert second.value(again[2]) == 3 and second.run(y2) == 54 * 0.5 + 3


def test_restore_before_the_session_knows_the_variables(tmp_path: Path) -> None:
    variables, y = model()
    with graphc.Session() as first:
        first.run(y)
        first.assign(variables[2], 42)
        first.save(tmp_path / "s")
    again, y2 = model()
    with graphc.Session() as second:
        second.restore(tmp_path / "s")
        assert second.value(again[2]) == 42 and second.run(y2) == 15 * 0.5 + 42
    wrong = graphc.variable(np.zeros(4, np.int64), name="n")
    with graphc.Session() as third:
        third.restore(tmp_path / "s")
        with pytest.raises(graphc.ShapeError, match="'n' has shape"):
            third.value(wrong)


def test_the_file_is_safetensors_of_all_dtypes(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    names = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
    values = {d: np.array([[0, 1], [1, 0], [1, 1]]).astype(d) for d in names}
    values["empty"] = np.zeros((0, 3), np.float32)
    values["scalar"] = np.array(2.5)
    values["ä/größe"] = np.ones(1)
    variables = {name: graphc.variable(value, name=name) for name, value in values.items()}
    half = graphc.variable([1.0, 2.5], name="half", dtype="bfloat16")
    with graphc.Session() as session:
        for v in (*variables.values(), half):
            session.value(v)
        session.save(tmp_path / "s.safetensors")
        for v in (*variables.values(), half):
            session.assign(v, np.zeros(v.shape, v.dtype.numpy))
        session.restore(tmp_path / "s.safetensors")
        for name, v in variables.items():
            np.testing.assert_array_equal(session.value(v), values[name])
            assert session.value(v).dtype == values[name].dtype
        assert session.value(half).astype(np.float32).tolist() == [1, 2.5]
    raw = checkpoint.read_checkpoint(tmp_path / "s.safetensors")
    assert raw["half"].dtype == "bfloat16" and raw["half"].stored.tolist() == [0x3F80, 0x4020]
    data = (tmp_path / "s.safetensors").read_bytes().replace(b'"BF16"', b'"U16" ')
    found = numpy.load(data)
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)


def test_unnamed_and_equally_named_variables_have_stable_names(tmp_path: Path) -> None:
    def declare() -> list[graphc.Tensor]:
        a, b = graphc.variable(np.float64(1)), graphc.variable(np.float64(2))
        return [
            a,
            b,
            graphc.variable(np.float64(3), name="same"),
            graphc.variable(4.0, name="same"),
        ]

    first = declare()
    with graphc.Session() as session:
        session.run(first[1] + first[0])  # used in another order than declared
        session.run(first[2]), session.run(first[3])
        session.assign(first[0], 10.0)
        session.assign(first[3], 40.0)
        session.save(tmp_path / "s")
    second = declare()
    with graphc.Session() as session:
        session.restore(tmp_path / "s")
        session.run(second[0] * second[1])
        assert [float(session.value(v)) for v in second] == [10, 2, 3, 40]


def test_restore_checks_everything_first(tmp_path: Path) -> None:
    (w, b, n), _ = model()
    other_w = graphc.variable(np.zeros((2, 3), np.float32), name="w")
    with graphc.Session() as session:
        session.assign(other_w, np.ones((2, 3), np.float32))
        session.save(tmp_path / "w_only")
    wrong_b = graphc.variable(np.float32(3), name="b")
    with graphc.Session() as session:
        for v in (other_w, wrong_b, n):
            session.value(v)
        session.save(tmp_path / "wrong_b")
    with graphc.Session() as session:
        for v in (w, b, n):
            session.value(v)
        with pytest.raises(graphc.FormatError, match="no value for 'b', 'n'"):
            session.restore(tmp_path / "w_only")
        with pytest.raises(graphc.DTypeError, match="'b' is float32, expected f64"):
            session.restore(tmp_path / "wrong_b")
        assert session.value(w).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_damaged_files_are_refused(tmp_path: Path, session: graphc.Session) -> None:
    variables, _ = model()
    for v in variables:
        session.value(v)
    path = tmp_path / "s"
    session.save(path)
    data = path.read_bytes()
    header = int.from_bytes(data[:8], "little")
    damaged = {
        "empty": b"",
        "short": data[:-1],
        "long": data + b"\0",
        "cut": data[:20],
        "header": (header + 8).to_bytes(8, "little") + data[8:],
        "huge": (1 << 60).to_bytes(8, "little") + data[8:],
        "text": b"graph { }" * 10,
        "dtype": data.replace(b'"F64"', b'"F8X"'),
    }
    for name, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(graphc.FormatError) as caught:
            session.restore(path)
        assert "hint" in str(caught.value), name
    with pytest.raises(graphc.FormatError, match="No such file"):
        session.restore(tmp_path / "nothing")
    assert session.value(variables[1]) == 0.5


def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, session: graphc.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, _ = model()
    session.value(variables[0])
    path = tmp_path / "s"
    session.save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    session.assign(variables[0], np.ones((2, 3), np.float32))
    with pytest.raises(OSError, match="No space"):
        session.save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


SAVER = """
    import sys, numpy as np, graphc
    w = graphc.variable(np.zeros(1 << 20, np.float32), name="w")
    n = graphc.variable(np.int64(0), name="n")
    with graphc.Session() as session:
        step = session.function([], n, updates={w: w + 1, n: n + 1})
        print("ready", flush=True)
        while True:
            step()
            session.save(sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_kill_during_save_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    w = graphc.variable(np.zeros(1 << 20, np.float32), name="w")
    n = graphc.variable(np.int64(0), name="n")
    rng = np.random.default_rng(0)
    for _ in range(6):
        command = [sys.executable, "-c", textwrap.dedent(SAVER), str(path)]
        environment = {**os.environ, "PYTHONPATH": str(Path(graphc.__file__).parents[1])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            while not path.exists():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        with graphc.Session() as session:
            session.restore(path)
            count = int(session.value(n))
            assert count >= 1 and (session.value(w) == count).all()


# -- Ctrl-C --------------------------------------------------------------------

INTERRUPTED = """
    import os, random, signal, threading, time
    import numpy as np, graphc, graphc.runtime.cpu_device
    x = graphc.placeholder(("n",), "float64", name="x")
    a = graphc.variable(np.zeros(1 << SIZE), name="a")
    b = graphc.variable(np.zeros(1 << SIZE), name="b")
    count = graphc.variable(np.int64(0), name="count")
    armed = stop = False
    interrupts = 0

    def handler(number, frame):
        global armed, interrupts
        if armed:  # once per arming: never between the tries below
            armed = False
            interrupts += 1
            raise KeyboardInterrupt

    def interrupt():
        rng = random.Random(0)
        while not stop:
            time.sleep(rng.uniform(0.001, 0.004))
            os.kill(os.getpid(), signal.SIGINT)

    if not NATIVE:  # as on an interpreter whose objects are laid out in another way
        graphc.runtime.cpu_device.shared_entry = lambda cache: None
    signal.signal(signal.SIGINT, handler)
    with graphc.Session() as session:
        step = session.function(
            [x], graphc.sum(x), updates={a: a + 1, b: b + 1, count: count + 1}
        )
        ones = np.ones(1000)
        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            try:
                armed = True
                while time.monotonic() < deadline:
                    step(ones)
                armed = False
            except KeyboardInterrupt:
                pass
            try:
                armed = True
                session.value(a)
                session.assign(count, session.value(count))
                armed = False
            except KeyboardInterrupt:
                pass
            found = session.value(a), session.value(b), session.value(count)
            assert (found[0] == found[2]).all() and (found[1] == found[2]).all(), found
        stop = True
        thread.join()
        before = int(session.value(count))
        step(ones)
        assert session.value(count) == before + 1
    print("ok", interrupts, before)
"""


@pytest.mark.skipif(os.name != "posix", reason="interrupts by signal")
@pytest.mark.parametrize("size, native", [(4, True), (18, True), (4, False)])
def test_ctrl_c_leaves_the_state_whole(size: int, native: bool) -> None:
    program = textwrap.dedent(INTERRUPTED).replace("SIZE", str(size))
    program = program.replace("NATIVE", str(native))
    environment = {**os.environ, "PYTHONPATH": str(Path(graphc.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    word, interrupts, calls = done.stdout.split()
    assert word == "ok" and int(interrupts) > 50 and int(calls) > 50


def test_ctrl_c_is_heard_after_the_call(session: graphc.Session) -> None:
    x = graphc.placeholder(("n", "n"), name="x")
    count = graphc.variable(np.int64(0), name="count")
    f = session.function([x], graphc.sum(x @ x @ x), updates={count: count + 1})
    big = np.ones((700, 700), np.float32)
    f(big)
    with pytest.raises(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        old = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            for _ in range(1000):
                f(big)
        finally:
            signal.signal(signal.SIGALRM, old)
    done = int(session.value(count))
    assert 1 <= done < 1000
    f(big)
    assert session.value(count) == done + 1


def test_numbers_and_arrays_are_new_values(session: graphc.Session) -> None:
    a = graphc.variable(np.ones(3, np.float32), name="a")
    n = graphc.variable(np.int64(5), name="n")
    reset = session.function([], n, updates={a: np.zeros(3, np.float32), n: 0})
    assert reset() == 5
    np.testing.assert_array_equal(session.value(a), np.zeros(3))
    assert session.value(n) == 0
    assert session.function([], n, updates={n: 7}) is not session.function([], n, updates={n: 8})
    with pytest.raises(graphc.GraphError, match="new value of 'a' must be f32"):
        session.function([], [], updates={a: np.zeros(4, np.float32)})

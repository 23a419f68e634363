"""The backend of ONNX's own test suite (floor 8): `onnx.backend.base.Backend` over graphc.

A model whose compilation needs values of inputs (axes, sequences …) is compiled when it is first
run, once per distinct values of exactly those inputs. Pictures that a model decodes are decoded
here, before the compiled graph runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.backend.base
import onnx.defs
import onnx.helper

from graphc.base.errors import DeviceError, GraphError, message
from graphc.base.limits import Limits
from graphc.onnx.declared import symbol_text
from graphc.onnx.importer import Imported, import_model
from graphc.onnx.narrow import CARRIED, INTEGERS, carried_array
from graphc.onnx.pictures import pictures_of
from graphc.onnx.reader import Model, checked_model
from graphc.onnx.refusal import InputNeeded
from graphc.runtime.function import Function
from graphc.runtime.session import Session
from graphc.runtime.structure import Structure

_KEPT = 16  # compiled variants that one model keeps


class Representation(onnx.backend.base.BackendRep):  # type: ignore[misc]  # onnx is not typed here
    """A prepared model: `run(inputs)` gives a tuple of outputs."""

    def __init__(self, model: Model, session: Session) -> None:
        self._model = model
        self._session = session
        self._fixed: tuple[str, ...] = ()
        self._fixed_sizes: tuple[str, ...] = ()
        self._compiled: dict[Any, tuple[Imported, Function]] = {}
        graph = model.proto.graph
        initialized = {t.name for t in graph.initializer}
        self.input_names = [i.name for i in graph.input if i.name not in initialized]
        self._pictures = list(pictures_of(model.proto))
        declared = [*graph.input, *(p.declared() for p in self._pictures)]
        self._declared = {i.name: i.type for i in declared}
        try:
            self._variant({})
        except InputNeeded as error:
            self._need(error)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for inputs by position or by name (a mapping)."""
        feeds = dict(inputs) if isinstance(inputs, Mapping) else self._by_position(inputs)
        decoded = {p.output: p for p in self._pictures}
        feeds |= {n: p.decode(feeds[p.input]) for n, p in decoded.items() if p.input in feeds}
        while True:
            try:
                imported, function = self._variant(feeds)
                break
            except InputNeeded as error:
                self._need(error)
        by_label = {label: name for name, label in imported.legal.items()}
        names = [by_label[label] for label, _ in imported.graph.inputs]
        missing = [decoded[n].input if n in decoded else n for n in names if n not in feeds]
        if missing:
            raise GraphError(message(f"run: the inputs {missing} are missing"))
        values = function(*(self._argument(feeds[n], n) for n in names))
        for name, element in imported.carried.items():
            kind = onnx.helper.tensor_dtype_to_np_dtype(element)
            whole = element in INTEGERS
            values[name] = values[name].astype(kind) if whole else values[name].view(kind)
        return tuple(_packed(s, values) for s in imported.structure)

    def _by_position(self, inputs: Any) -> dict[str, Any]:
        values = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if len(values) > len(self.input_names):
            raise GraphError(
                message(f"run: {len(values)} inputs, expected {len(self.input_names)}")
            )
        return dict(zip(self.input_names, values))

    def _argument(self, value: Any, name: str) -> Any:
        """An input as the graph takes it: of a type that is carried, what carries it."""
        element = self._declared[name].tensor_type.elem_type
        return carried_array(np.asarray(value), element) if element in CARRIED else value

    def _need(self, error: InputNeeded) -> None:
        new = [n for n in error.inputs if n not in self._fixed]
        sizes = [n for n in error.sizes if n not in self._fixed_sizes]
        if not new and not sizes:
            raise error
        self._fixed += tuple(new)
        self._fixed_sizes += tuple(sizes)

    def _variant(self, feeds: Mapping[str, Any]) -> tuple[Imported, Function]:
        constants = {n: feeds.get(n) for n in self._fixed}
        if any(n not in feeds for n in self._fixed):
            missing = [n for n in self._fixed if n not in feeds]
            raise GraphError(message(f"run: the inputs {missing} are missing"))
        sizes = self._sizes(feeds) if self._fixed_sizes else {}
        key = (*map(_key, constants.values()), *sizes.items())
        if key not in self._compiled:
            imported = import_model(self._model, constants, sizes)
            function = _compiled(self._session, imported)
            while len(self._compiled) >= _KEPT:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = imported, function
        return self._compiled[key]

    def _sizes(self, feeds: Mapping[str, Any]) -> dict[str, int]:
        """Sizes of symbolic dims, as the inputs have them."""
        found: dict[str, int] = {}
        for name, value in feeds.items():
            dims = self._declared[name].tensor_type.shape.dim
            for axis, (dim, size) in enumerate(zip(dims, np.shape(value))):
                if not dim.HasField("dim_value"):
                    found[symbol_text(dim, name, axis)] = size
        return found


def _compiled(session: Session, imported: Imported) -> Function:
    outputs = dict(imported.graph.outputs)
    return Function(session._workshop, imported.graph, Structure(outputs, "outputs"))


def _packed(structure: Any, values: Mapping[str, Any]) -> Any:
    """One output of the model out of the graph's."""
    if structure is None:
        return None
    if isinstance(structure, list):
        return [_packed(s, values) for s in structure]
    return values[structure]


def _key(value: Any) -> Any:
    """What tells one value of a fixed input from another."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()


class Backend(onnx.backend.base.Backend):  # type: ignore[misc]  # onnx is not typed here
    """Runs ONNX models on the CPU."""

    _session: Session | None = None

    @classmethod
    def session(cls) -> Session:
        """The session in which all models run."""
        if cls._session is None:
            # 16-bit floats are held against numbers that were rounded at every node.
            cls._session = Session(numerics="exact")
        return cls._session

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the model can be imported here, or may be with values of its inputs."""
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Representation:
        """A model that is ready to run. Raises what `graphc.onnx.load` raises."""
        if not cls.supports_device(device):
            raise DeviceError(message(f"the device {device!r} cannot run here", hint="use CPU"))
        return Representation(checked_model(model, Limits()), cls.session())

    @classmethod
    def run_model(
        cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """The outputs of a model, once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: Any,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of one node, whose operands that are given are `inputs` in order.

        opset_version: that of the node's domain, the newest by default.
        """
        version = int(kwargs.pop("opset_version", onnx.defs.onnx_opset_version()))
        arrays = [np.asarray(v) for v in inputs]
        names = [n for n in node.input if n]
        infos = [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
            )
            for n, a in zip(names, arrays)
        ]
        outputs = [onnx.helper.make_empty_tensor_value_info(n) for n in node.output if n]
        graph = onnx.helper.make_graph([node], node.op_type or "node", infos, outputs)
        opset = onnx.helper.make_opsetid(node.domain, version)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models run on a device: "CPU", "CPU:0"."""
        return device.partition(":")[0].upper() == "CPU"


prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
is_compatible = Backend.is_compatible

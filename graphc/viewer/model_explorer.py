"""Scenes as the JSON that Model Explorer opens (floor 8): graphs of nodes with namespaces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from graphc.viewer.scenes import Scene, SceneNode


def json_of(name: str, scenes: Sequence[Scene]) -> str:
    """A collection with one graph per scene; operands become incoming edges."""
    graphs = [
        {"id": scene.title, "nodes": [_node(k, node) for k, node in enumerate(scene.nodes)]}
        for scene in scenes
    ]
    return json.dumps([{"label": name, "graphs": graphs}], indent=1, ensure_ascii=False)


def _node(k: int, node: SceneNode) -> dict[str, Any]:
    attributes = [("name", node.label), ("type", node.type), *node.facts]
    return {
        "id": str(k),
        "label": node.op,
        "namespace": "/".join(part.replace("/", "\N{FRACTION SLASH}") for part in node.group),
        "attrs": [{"key": key, "value": value} for key, value in attributes],
        "incomingEdges": [
            {"sourceNodeId": str(i), "sourceNodeOutputId": "0", "targetNodeInputId": str(slot)}
            for slot, i in enumerate(node.inputs)
        ],
        "outputsMetadata": [{"id": "0", "attrs": [{"key": "tensor_shape", "value": node.type}]}],
    }

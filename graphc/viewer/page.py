"""The viewer as one HTML file (floor 8): no network, no other file, nothing of the graph as markup.

The graph is JSON in a data block; the page's policy allows the two texts of this package by their
digests and nothing else, so that a name in a stranger's graph cannot become a script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from graphc.viewer.scenes import Scene, SceneNode


def page(name: str, scenes: Sequence[Scene]) -> str:
    """The HTML of scenes; name: the title."""
    script, style = _resource("viewer.js"), _resource("viewer.css")
    policy = f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}"
    title = html.escape(name)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<span id="tabs"></span>
<input id="search" type="search" placeholder="search: name, op, type, line (/)" aria-label="search">
<span id="count" role="status"></span>
<button id="open">open all</button>
<button id="close">close all</button>
<button id="fit">fit (f)</button>
</header>
<main>
<svg id="canvas">
<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6"
orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#9aa5b1"/></marker></defs>
<g id="world"></g>
</svg>
</main>
<aside id="details"><p class="hint">Click a node.</p></aside>
<script type="application/json" id="model">{_embedded(_model(scenes))}</script>
<script>{script}</script>
</body>
</html>
"""


def _resource(name: str) -> str:
    return files("graphc.viewer").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _model(scenes: Sequence[Scene]) -> dict[str, Any]:
    return {
        "scenes": [
            {
                "title": s.title,
                "groups": s.groups,
                "nodes": [_node(n) for n in s.nodes],
                "notes": s.notes,
            }
            for s in scenes
        ]
    }


def _node(node: SceneNode) -> dict[str, Any]:
    return {
        "label": node.label,
        "op": node.op,
        "kind": node.kind,
        "type": node.type,
        "inputs": node.inputs,
        "group": node.group,
        "facts": node.facts,
    }


def _embedded(value: Any) -> str:
    """JSON that no HTML parser can leave: neither an end tag nor a comment can stand in it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

"""What the viewer shows, and that names of a stranger's graph are only ever text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import graphc
from graphc.cli.model import compilation
from graphc.viewer.dot import dot_text, quoted
from graphc.viewer.model_explorer import json_of
from graphc.viewer.page import page
from graphc.viewer.scenes import Scene, scene, scenes

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img/src=x/onerror=alert(1)>",
    "<!--",
    "a&lt;b",
    "];x->y[label=",
    "'};alert(1);//",
    "\u2028\u2029",
)


def hostile_graph() -> graphc.Graph:
    """A text graph may hold any string as a name, which the Python functions would not take."""
    lines = ['graph "' + HOSTILE[0] + '" {', f"  input %x {json.dumps('in' + HOSTILE[1])} : f32[3]"]
    for k, name in enumerate(HOSTILE):
        lines.append(f"  %{k} = exp(%{k - 1 if k else 'x'}) : f32[3] name {json.dumps(name)}")
    return graphc.parse("\n".join([*lines, f"  output {json.dumps(HOSTILE[2])} = %6", "}"]))


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self.closed = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.closed = len(self.found)

    def handle_data(self, data: str) -> None:
        k = len(self.found) - 1
        if self.closed <= k:  # what stands after an end tag belongs to no element here
            self.texts[k] = self.texts.get(k, "") + data


def small() -> graphc.Graph:
    x = graphc.placeholder(("n", 4), name="x")
    with graphc.name_scope("encoder"):
        w = graphc.variable(np.ones((4, 4), np.float32), name="w")
        h = graphc.tanh(x @ w + 1).named("h")
    return graphc.Graph([x], {"y": graphc.sum(h)})


def test_a_page_holds_its_two_scripts_and_nothing_foreign() -> None:
    graph = hostile_graph()
    text = page(graph.name, scenes(compilation(graph)))
    elements = Elements(text)
    expected = Elements(page("plain", scenes(compilation(small()))))
    assert [t for t, _ in elements.found] == [t for t, _ in expected.found]
    scripts = [k for k, (tag, _) in enumerate(elements.found) if tag == "script"]
    assert len(scripts) == 2
    model = json.loads(elements.texts[scripts[0]])
    labels = {n["label"] for s in model["scenes"] for n in s["nodes"]}
    assert set(HOSTILE[:2]) <= labels  # all of it is there, as data
    assert not [a for _, attrs in elements.found for a in attrs if a.startswith("on")]
    assert not [v for _, a in elements.found for k, v in a.items() if k in ("src", "href")]
    assert "http:" not in re.sub(r'"http://www.w3.org/2000/svg"', "", text) and "https:" not in text


def test_the_policy_allows_the_texts_of_the_page_alone() -> None:
    graph = small()
    elements = Elements(page(graph.name, scenes(compilation(graph))))
    policy = next(a["content"] for t, a in elements.found if t == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")
    for kind, k in (
        ("script-src", max(k for k, (t, _) in enumerate(elements.found) if t == "script")),
        ("style-src", next(k for k, (t, _) in enumerate(elements.found) if t == "style")),
    ):
        digest = base64.b64encode(hashlib.sha256(elements.texts[k].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    script = elements.texts[max(k for k, (t, _) in enumerate(elements.found) if t == "script")]
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in script


def test_scenes() -> None:
    graph = small()
    declared, optimized, kernels = scenes(compilation(graph))
    assert [s.title for s in (declared, optimized, kernels)] == ["declared", "optimized", "kernels"]
    by_label = {n.label: n for n in declared.nodes}
    assert by_label["encoder/h"].group == ("encoder",)
    assert by_label["add_0"].group == ("encoder",)  # nobody named it: it is where its users are
    assert by_label["x"].group == () and by_label["x"].kind == "input"
    assert ("output", "y") in by_label["y"].facts
    lines = [value for key, value in by_label["encoder/h"].facts if key == "line"]
    assert lines and lines[0].startswith("test_view.py:")
    assert all(n.group for n in kernels.nodes if n.op in ("einsum", "tanh", "sum"))
    assert {group for group, _ in kernels.notes} >= {n.group for n in kernels.nodes if n.group}


def test_large_values_are_not_written_out() -> None:
    w = graphc.variable(np.arange(1000, dtype=np.float32), name="w")
    node = scene("declared", graphc.Graph([], {"y": w * 2})).nodes[0]
    assert all(len(value) < 500 for _, value in node.facts)
    assert any("sha256" in value for _, value in node.facts)


@pytest.mark.parametrize("name", [*HOSTILE, '"', "\\", "\\n", "a\nb"])
def test_dot_strings_end_where_they_should(name: str) -> None:
    text = quoted(name)
    inside = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', text)
    assert inside is not None and text.isprintable()


def test_dot_has_every_node_and_edge_once() -> None:
    graph = small()
    shown: Scene = scene("declared", graph)
    text = dot_text(shown, graph.name)
    nodes = re.findall(r"^\s+n(\d+) \[label", text, re.MULTILINE)
    assert sorted(map(int, nodes)) == list(range(len(graph.nodes)))
    edges = re.findall(r"n(\d+) -> n(\d+);", text)
    assert len(edges) == sum(len(n.inputs) for n in graph.nodes)
    assert text.count("{") == text.count("}") and 'subgraph "cluster encoder"' in text


def test_model_explorer_json() -> None:
    graph = hostile_graph()
    (collection,) = json.loads(json_of(graph.name, scenes(compilation(graph))))
    assert collection["label"] == HOSTILE[0]
    for found in collection["graphs"]:
        names = {n["id"] for n in found["nodes"]}
        sources = {e["sourceNodeId"] for n in found["nodes"] for e in n["incomingEdges"]}
        assert sources <= names and len(names) == len(found["nodes"])

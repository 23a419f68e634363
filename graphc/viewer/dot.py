"""A scene in the DOT language of Graphviz (floor 8): groups as clusters, names escaped."""

from __future__ import annotations

from graphc.viewer.scenes import Scene

_COLORS = {
    "input": "#d6eaf8",
    "variable": "#fdebd0",
    "constant": "#eeeeee",
    "output": "#d5f5e3",
    "op": "#ffffff",
}


def quoted(text: str) -> str:
    """A quoted DOT string that shows `text` as it is: no escapes, no HTML, no line ends."""
    plain = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def dot_text(scene: Scene, name: str) -> str:
    """The whole scene as a digraph."""
    lines = [
        f"digraph {quoted(name)} {{",
        '  node [shape=box style="rounded,filled" fontname="sans-serif" fontsize=10];',
    ]
    # By group, so that each cluster is written once; its inner clusters follow it.
    tree: dict[tuple[str, ...], list[int]] = {}
    for k, node in enumerate(scene.nodes):
        for depth in range(len(node.group) + 1):
            tree.setdefault(node.group[:depth], [])
        tree[node.group].append(k)
    open_group: tuple[str, ...] = ()
    for group in sorted(tree):
        while group[: len(open_group)] != open_group:
            lines.append("  " * len(open_group) + "}")
            open_group = open_group[:-1]
        if len(group) > len(open_group):
            inner = "  " * len(group)
            lines.append(f"{inner}subgraph {quoted('cluster ' + '/'.join(group))} {{")
            lines.append(f"{inner}  label={quoted(group[-1])};")
            open_group = group
        lines += ["  " * (len(group) + 1) + _node_line(scene, k) for k in tree[group]]
    for depth in range(len(open_group), 0, -1):
        lines.append("  " * depth + "}")
    for k, node in enumerate(scene.nodes):
        lines += [f"  n{i} -> n{k};" for i in node.inputs]
    return "\n".join(lines) + "\n}\n"


def _node_line(scene: Scene, k: int) -> str:
    node = scene.nodes[k]
    label = quoted(node.label)[:-1] + "\\n" + quoted(f"{node.op} : {node.type}")[1:]
    return f'n{k} [label={label} fillcolor="{_COLORS[node.kind]}"];'

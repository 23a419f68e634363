"""Floor 1: the graph language: nodes, op definitions, graphs, verification, text, provenance."""

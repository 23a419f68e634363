"""Floor 3: graph passes: frozen dataclasses with a name, typed options, and `run(graph, context)`."""

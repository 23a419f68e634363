"""Floor 3: graph passes: dataclasses with a name, options, and `run(graph, context)`."""

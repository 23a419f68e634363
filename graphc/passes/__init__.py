"""Graph passes (floor 3): each a function from graph to graph."""

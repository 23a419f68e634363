"""Floor 2: the ops, each declared once."""

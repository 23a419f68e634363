"""Floor 3: the rules, one file per theme. Each declares its floating-point class and tests itself.

Nothing here decides when a rule runs: that is the pipeline's (`passes/`).
"""

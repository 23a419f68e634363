"""Floor 3: rewriting: patterns in the notation of the ops, a floating-point class per rule, one
driver.
"""

"""Floor 5: from the graph to kernels: regions (fusion), lowering to loops, the buffer plan."""

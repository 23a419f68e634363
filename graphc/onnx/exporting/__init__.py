"""ONNX models out (floor 8): `graph.export_onnx(path)` and `graphc.onnx.export(graph, path)`.

    writer      nodes, names and constants of the ONNX graph, typed by ONNX's schemas
    sizes       symbolic dims as tensors: shapes read and computed in the model
    table       which function exports which op; one module per kind of op fills it
    patterns    groups of graphc nodes that are one operator (pools, biases, top_k)
    model       graph -> model
    file        model -> file, whole or not at all

Nothing here is loaded before a graph is exported: it needs the extra "onnx".
"""

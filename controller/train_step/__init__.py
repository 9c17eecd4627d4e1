"""Builds the graph with which a device trains, from the graph with which it infers.

Reverse-mode differentiation over ONNX: `canonical` makes the inference model that is shipped,
`build` the train-step graph beside it, `check` tries both before anybody signs them.
"""

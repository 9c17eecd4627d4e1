"""Model versions: from an ONNX file to a published bundle, and to recall."""

"""The Open Inference Protocol's messages, generated from the ``.proto`` file beside them."""

"""Outside world: the Open Inference Protocol on localhost."""

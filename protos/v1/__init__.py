"""The messages of ``muster.v1``, generated from the ``.proto`` files beside them."""

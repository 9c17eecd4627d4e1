"""Keys and signers, as securesystemslib defines them; the one place that names its modules.

A signer may be a file, an HSM or a KMS: ``Signer.from_priv_key_uri`` decides by the URI's scheme.
"""

# The package re-exports its public names without ``__all__``, which strict typing does not follow.
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import (  # type: ignore[attr-defined]
    CryptoSigner,
    Key,
    Signature,
    Signer,
    SSlibKey,
)

__all__ = ["CryptoSigner", "Key", "SSlibKey", "Signature", "Signer", "UnverifiedSignatureError"]

"""What servers say of themselves and of models, the same on every face of the protocol."""

from importlib.metadata import version
from typing import Any, Final

from agent.errors import NotReady, UnknownModel
from agent.inference.actions import Deployments
from protos.manifest import Manifest

Hosting = Deployments[Any, Any]
"""Whatever observes the requests: servers do not mind."""

SERVER_NAME: Final = "muster-agent"
SERVER_VERSION: Final = version("muster")
EXTENSIONS: Final = ("binary_tensor_data",)
PLATFORM: Final = "onnx_onnxv1"


def version_of(model: str, text: str) -> int | None:
    """The version that a request names; None for the champion, which an empty text stands for.

    Raises:
        UnknownModel: it is no number that a version could have.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UnknownModel(f"unknown version {text!r} of model {model!r}")
    return int(text)


def described(hosting: Hosting, model: str, text: str) -> tuple[Manifest, list[str]]:
    """The manifest of what answers for ``model`` and that version, and all versions that answer.

    Raises:
        UnknownModel: no such model here, or not that version.
        NotReady: it is on its way.
    """
    manifest = hosting.get(model, version_of(model, text))
    versions = {one.version for one in hosting.hosted() if one.model == model and one.ready}
    return manifest, [str(one) for one in sorted(versions)]


def is_ready(hosting: Hosting, model: str, text: str) -> bool:
    """Whether a request for ``model`` and that version would be answered."""
    try:
        hosting.get(model, version_of(model, text))
    except (UnknownModel, NotReady):
        return False
    return True

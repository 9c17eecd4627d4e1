"""Why no version can be made of what a run has brought."""

from controller.errors import ControllerError


class NoCandidate(ControllerError):
    """The run's parameters and its parent give no version; the message names what does not fit."""

    code = "no-candidate"
    remedy = "The run's parent must be a version that was registered with `--trainable`."
    status = 409

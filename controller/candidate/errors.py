"""Why no version can be made of what a run has brought."""

from controller.errors import ControllerError


class NoCandidate(ControllerError):
    """The run's parameters and its parent give no version; the message names what does not fit."""

    code = "no-candidate"
    remedy = "The run's parent must be a version that was registered with `--trainable`."
    status = 409


class Interrupted(ControllerError):
    """The process that made a candidate went down before it was done."""

    code = "candidate-interrupted"
    remedy = "It is tried again: see the controller's log, and whether the machine has memory left."
    status = 503

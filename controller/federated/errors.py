"""Why a federated run can't begin, each with its remedy."""

from controller.errors import ControllerError


class FlowerMissing(ControllerError):
    """The controller was installed without what aggregates."""

    code = "federated-extra-missing"
    remedy = "On the controller's machine: `pip install 'muster[federated]'`, then start it anew."
    status = 409


class NotTrainableHere(ControllerError):
    """The version has no train step, so devices have nothing to train with."""

    code = "no-train-step"
    remedy = (
        "Register the model anew with `muster model register … --trainable`, have it approved, and "
        "roll it out; then name that version in the run file."
    )
    status = 409

"""Why a federated run can't begin, or go on as it was, each with its remedy."""

from controller.errors import ControllerError, StoreError


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


class ReplyWithdrawn(StoreError):
    """What was made of a phase has a reply in it that does not count any more.

    A ``StoreError``, so that its coordinator begins the phase anew from what is stored.
    """

    code = "reply-withdrawn"
    remedy = "Nothing: the phase is collected again, without that reply."
    status = 409

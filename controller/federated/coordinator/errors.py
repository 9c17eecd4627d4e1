"""Every way a run can come to its end before it is done, each with its remedy."""

from controller.errors import ControllerError


class RunBroken(ControllerError):
    """The run can't go on as it is: it fails, with these words."""

    code = "run-failed"
    remedy = "Look at the run's rounds with `muster federated show`; resume it when that is mended."
    status = 409


class TooFewDevices(RunBroken):
    """Round after round too few devices were ready, or replied well."""

    code = "too-few-devices"
    remedy = (
        "See why devices decline (`muster federated show`), wait until more are ready, or lower "
        "round.minimum_cohort; then `muster federated resume`."
    )


class NoAggregate(RunBroken):
    """The strategy can't make the next parameters of the replies."""

    code = "no-aggregate"
    remedy = "Give the strategy other parameters in the run file, or ask more devices."


class CheckpointUnreadable(RunBroken):
    """What the coordinator wrote down of the run is of another release, or damaged."""

    code = "checkpoint-unreadable"
    remedy = "Resume it with the release that began it, or start a run anew."


class AppUnfit(RunBroken):
    """The app can't be had, is none, or has left no parameters."""

    code = "app-unfit"
    remedy = (
        "`--app module:app` names a flwr.serverapp.ServerApp or Strategy that the coordinator can "
        "import. It leaves its parameters in context.state['arrays'], or calls Strategy.start."
    )


class AppNotDeterministic(RunBroken):
    """A restarted app did something else than before: what it did can't be gone on with."""

    code = "app-not-deterministic"
    remedy = (
        "An app that is to be resumed draws from `random` and `numpy.random` only, which are seeded, "
        "and asks neither the time nor anything outside. Start the run anew."
    )


class Stopped(BaseException):
    """Somebody has stopped the run. No ``Exception``: an app of a user's own shall not catch it."""

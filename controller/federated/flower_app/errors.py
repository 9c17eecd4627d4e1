"""What can be wrong with an app of Flower's that was made of a run."""

from controller.errors import ControllerError


class NoFlowerApp(ControllerError):
    """What the run file asks for is not to be had there; the message names it."""

    code = "no-flower-app"
    remedy = "Change the run file, or keep the run here: `muster federated start RUN.toml`."
    status = 422


class AppDamaged(ControllerError):
    """The app, or a file beside it, is not what was exported."""

    code = "flower-app-damaged"
    remedy = "Export it anew: `muster federated export RUN.toml --to FOLDER`."


class ExamplesUnfit(ControllerError):
    """There are no examples to learn from, or they do not fit the model."""

    code = "examples-unfit"
    remedy = (
        "Name an .npz file with an array for each input and `y` with the truth: "
        "`--node-config 'examples=\"/path.npz\"'`, or in a simulation `--run-config`."
    )

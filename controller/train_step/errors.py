"""Why a model can't be trained on a device: found at registration, never on a device."""

from controller.errors import InvalidInput


class NotTrainable(InvalidInput):
    """No train-step graph can be made of this model with these options."""

    code = "not-trainable"
    remedy = "Train fewer layers (`head`, or the last k), or retrain centrally."


class NoGradientRule(NotTrainable):
    """A trained value reaches an operator that has no gradient here, or has one in other forms."""

    code = "no-gradient-rule"
    remedy = (
        "Train only layers behind that operator (`head`, or the last k), or export the model "
        "without it."
    )


class TreeEnsemble(NotTrainable):
    """A decision tree has no gradient."""

    code = "tree-ensemble"
    remedy = "Retrain it centrally and register the result as a new version."


class TrainingBatchNorm(NotTrainable):
    """A BatchNormalization that normalises by the batch at hand."""

    code = "training-batch-norm"
    remedy = "Export the model for inference: `model.eval()` first."


class QuantizedBody(NotTrainable):
    """A trained value lies in, or before, a part whose weights or activations are integers."""

    code = "quantized-body"
    remedy = (
        "Train the head only, left in float at the quantisation; or register the float model as "
        "trainable and quantise its later versions."
    )


class ProbabilityOutput(NotTrainable):
    """The loss takes logits and the output has probabilities that no final Softmax made."""

    code = "probability-output"
    remedy = (
        "Name the tensor that holds the logits as `output`, or export the model with logits; a "
        "classifier of two classes with one logit takes the loss `bce_with_logits`."
    )


class NotFloat32(NotTrainable):
    """A parameter that is no float32."""

    code = "not-float32"
    remedy = "Export the model in float32; it can be converted to half precision for inference."


class NoParameters(NotTrainable):
    """Nothing in the model is trainable, or nothing has the names that were asked for."""

    code = "no-parameters"
    remedy = "Name initializers that are weights of layers, or `all`."


class FixedBatch(NotTrainable):
    """The model takes batches of one size only, and that can't be changed."""

    code = "fixed-batch"
    remedy = "Export the model with a dynamic batch axis."


class NotConvertible(NotTrainable):
    """The model can't be brought into the canonical form."""

    code = "not-convertible"
    remedy = "Export the model with operator set 18 or newer."


class UnknownOutput(NotTrainable):
    """The loss can't be computed from the output that was named, or from any."""

    code = "unknown-output"
    remedy = "Name a tensor of the model whose first axis is the batch as `output`."


class BadParameters(InvalidInput):
    """Arrays that are not the model's parameters: names, shapes, types, or not finite."""

    code = "bad-parameters"
    remedy = "Pass finite float32 arrays with the names and shapes of the model's initializers."


class SelfCheckFailed(NotTrainable):
    """What was built does not do what it should: a fault of the builder, not of the model."""

    code = "train-step-self-check"
    remedy = "Report the model's operators as a fault of Muster; until then train fewer layers."

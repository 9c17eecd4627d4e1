"""Every way a device can decline to learn, each with its code and its remedy.

The code and the detail travel to the controller as the reason of a decline: a detail names fields,
limits and counts, and never a value of an example.
"""

from agent.errors import AgentError, InvalidRequest, Temporary

# --- Telling the truth ----------------------------------------------------------------------------


class NotCollecting(AgentError):
    """No examples are kept of this model here; the message says why."""

    code = "not-collecting"
    remedy = (
        "Set training.collect = true in agent.toml, and run a version that was registered with "
        "`--trainable`."
    )


class UnknownRequest(AgentError):
    """No request of that id is remembered: it had none, was too long ago, or never was."""

    code = "unknown-request"
    remedy = (
        "Give requests an `id`, and tell the truth soon enough: training.remember_seconds, "
        "remember_requests and remember_bytes in agent.toml say how soon. Else send the inputs along "
        "with the truth: POST /v2/models/MODEL/examples."
    )


class TruthUnfit(InvalidRequest):
    """What was told as the truth is not of the shape or range of the model's target."""

    code = "truth-unfit"
    remedy = "One value for each row of the request: a class's index, or numbers as the output has."


# --- Training was not possible now ----------------------------------------------------------------


class TrainingInterrupted(Temporary):
    """Training was ended from outside: by a person, or by a kernel that is out of memory."""

    code = "training-interrupted"
    remedy = "Free memory on the device; it takes part in a later round by itself."


class InferenceFirst(Temporary):
    """Requests left so little of the machine that training did not end in time."""

    code = "inference-first"
    remedy = "Nothing to do: the device takes part when it has less to answer."


# --- The step may not run here --------------------------------------------------------------------


class StepRefused(AgentError):
    """The version's training step is not one that this device runs; says what is in the way."""

    code = "step-refused"
    remedy = "Register the version anew with `--trainable`, with the controller of this release."


class ParametersUnfit(AgentError):
    """The parameters that came are not those of the training step; names the one that differs."""

    code = "parameters-unfit"
    remedy = "A run trains the version that it names: stop it, and start one for what runs here."


# --- An update that is not sent -------------------------------------------------------------------


class TrainingRejected(AgentError):
    """The device rejects what it would have sent. The tree's codes are the reasons."""

    code = "training-rejected"
    remedy = "The round goes on without this device. Look at the device's examples if it repeats."


class TooFewExamples(TrainingRejected):
    """Too few examples to learn from, or to check on."""

    code = "too-few-examples"
    remedy = "Tell the device more truths (feedback), or lower what the run asks for."


class NotFinite(TrainingRejected):
    """A loss or a parameter became NaN or infinite."""

    code = "not-finite"
    remedy = "Lower the run's learning rate; look for inputs of this device that are out of range."


class WorseOnHoldOut(TrainingRejected):
    """What was trained is worse than what came, on examples that training never saw."""

    code = "worse-on-hold-out"
    remedy = "Lower the run's learning rate or its epochs; look whether truths told here are right."


class OverBudget(TrainingRejected):
    """Training took more time or memory than the device allows."""

    code = "over-budget"
    remedy = "Ask for fewer steps in the run's file, or raise the budget in agent.toml: [training]."


class TrainerCrashed(TrainingRejected):
    """The training step took its process down."""

    code = "crashed"
    remedy = "Look at the version's training step; nothing else on the device was touched."


# --- A task that is declined ----------------------------------------------------------------------


class NotEligible(AgentError):
    """The device does not take part now; ``code`` is one of ``agent.federated.eligibility``."""

    remedy = (
        "Nothing to do: the device takes part when its own terms are met, [training] in agent.toml."
    )

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]  # as the terms have it


class TaskUnfit(AgentError):
    """The task asks for what this device does not know, or can't be read; names the field."""

    code = "task-unfit"
    remedy = "Look at what the run's strategy sends: a device trains and evaluates, nothing else."


class OtherVersion(AgentError):
    """The task is for a version that does not answer here."""

    code = "other-version"
    remedy = "The device takes part once the rollout of the run's version has reached it."


class TooLate(Temporary):
    """The task can't be done before its deadline."""

    code = "too-late"
    remedy = "Give rounds more time (`[round] deadline`), or ask less of a device."


class ReplyTooLarge(AgentError):
    """The reply would have more bytes than the task allows."""

    code = "reply-too-large"
    remedy = "Raise `[admission] reply_bytes` in the run's file, or leave it out."


class ParametersLost(AgentError):
    """The parameters that the task names did not come: nobody has them, or they are other bytes."""

    code = "parameters-lost"
    remedy = "Resume the run: its next round offers its parameters anew."


class KeepsInterrupting(AgentError):
    """The agent was ended again and again while it carried this task out."""

    code = "keeps-interrupting"
    remedy = "Look at the device's log and memory; it takes part in later tasks all the same."

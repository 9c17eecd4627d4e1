"""Every way the agent can fail or refuse, each with its code and its remedy.

The code travels in signed reports and is what people and programs tell failures apart by. The class
says what to do: an ``Untrusted`` is never tried again with the same bytes; a ``Temporary`` may be.
"""

from typing import ClassVar


class AgentError(Exception):
    """The root of the tree.

    Attributes:
        code: stable and machine-readable.
        remedy: what a person can do, in plain words.
    """

    code: ClassVar[str] = "agent-error"
    remedy: ClassVar[str] = "See the agent's log for what happened before."

    @property
    def detail(self) -> str:
        """What is wrong, naming the field or the file."""
        return str(self)


# --- Trying again may help ------------------------------------------------------------------------


class Temporary(AgentError):
    """Nothing is wrong with what was asked; now is not the time."""

    code = "temporary"


class TransportError(Temporary):
    """No answer came from the controller."""

    code = "transport"
    remedy = "The agent keeps trying. Check network, controller and, if there is one, broker."


class NobodyAnswered(TransportError):
    """No answer came to a machine that wants to join: nobody asks again for it."""

    remedy = "Check network, controller and broker, and run it again: the token serves still."


class MirrorDistrusted(TransportError):
    """What a mirror has is not what it must be, so it counts as no answer. Its cause says why not."""

    code = "mirror-distrusted"
    remedy = "The agent goes on. Run `muster mirror sync`, or find out who changed the mirror."


class DiskFull(Temporary):
    """The files do not fit on the disk."""

    code = "disk-full"
    remedy = "Free disk space on the device; the agent goes on by itself."


class NoProcess(Temporary):
    """The device can't start another process now."""

    code = "no-process"
    remedy = "Free memory or end processes on the device; the agent goes on by itself."


class SelfTestKilled(Temporary):
    """The self-test was ended from outside: by a person, or by a kernel that is out of memory."""

    code = "self-test-killed"
    remedy = "Free memory on the device; the agent tests the version again by itself."


class NotYetTrusted(Temporary):
    """The device has not verified the fleet's metadata yet, so it can judge nothing by it."""

    code = "not-yet-trusted"
    remedy = "The agent goes on by itself once it has reached the controller."


class Overloaded(Temporary):
    """More requests wait for an answer than the agent lets wait."""

    code = "overloaded"
    remedy = "Ask again in a moment, or raise serving.threads in agent.toml."


# --- The controller answered no -------------------------------------------------------------------


class Refused(AgentError):
    """The controller understood and refused; ``code`` and ``remedy`` are the controller's."""

    remedy = "The controller said why."

    def __init__(self, code: str, detail: str, remedy: str, retry_after_ms: int = 0) -> None:
        super().__init__(detail)
        self.retry_after_ms = retry_after_ms  # not now, but then; 0: asking again would not help
        self.code = code  # type: ignore[misc]  # the one error whose code comes from outside
        self.remedy = remedy  # type: ignore[misc]


# --- Refused on purpose: never again with the same bytes ------------------------------------------


class Untrusted(AgentError):
    """The device refused something that was not what it must be."""

    code = "untrusted"
    remedy = "The device refused on purpose. Find out who sent this before you do anything else."


class BadSignature(Untrusted):
    """Signed by nobody who may, or altered after signing."""

    code = "bad-signature"


class TooFewApprovals(Untrusted):
    """Fewer approvers have signed than the model's threshold."""

    code = "too-few-approvals"
    remedy = "Have the missing approvers sign with `muster model approve`."


class StaleDirective(Untrusted):
    """A directive older than one the device has acted on: a replay."""

    code = "stale-directive"


class WrongDevice(Untrusted):
    """A document for another device."""

    code = "wrong-device"


class RollbackAttack(Untrusted):
    """Metadata older than what the device has seen."""

    code = "rollback-attack"


class ExpiredMetadata(Untrusted):
    """Metadata past its expiry: an attacker may be hiding newer. What runs goes on running."""

    code = "expired-metadata"
    remedy = "Check the device's clock and that the controller re-signs its timestamp."


class MixAndMatch(Untrusted):
    """Metadata or files that never belonged together."""

    code = "mix-and-match"


class HashMismatch(Untrusted):
    """A file is not the one that was signed for."""

    code = "hash-mismatch"


class EndlessData(Untrusted):
    """More bytes than were announced."""

    code = "endless-data"


class NotListed(Untrusted):
    """The directive names a version that no approver has signed for, or with another digest."""

    code = "not-listed"
    remedy = "Approve the version, or direct the device to one that is."


class Recalled(Untrusted):
    """The approvers have recalled this version."""

    code = "recalled"
    remedy = "Roll out another version."


class BelowFloor(Untrusted):
    """The version is older than the approvers allow."""

    code = "below-floor"
    remedy = "Roll out a version at or above the floor."


class WrongController(Untrusted):
    """Who answered is not the controller that the token or the identity names."""

    code = "wrong-controller"
    remedy = (
        "Make a token at the controller that this device shall join, with `muster token create`. "
        "If the token is from there, something in between answers in its place: find out what."
    )


class MalformedDocument(Untrusted):
    """A document that can't be read."""

    code = "malformed"


# --- The version does not suit this device --------------------------------------------------------


class Incompatible(AgentError):
    """The device lacks something that the version needs; the message lists all of it."""

    code = "incompatible"
    remedy = "Roll the version out to devices that have what it needs."


class InstallFailed(AgentError):
    """The version was tried and did not pass."""

    code = "install-failed"
    remedy = "The device runs what it ran before. Mend the version and register a new one."


class ModelLoadFailed(InstallFailed):
    """The runtime can't load the model."""

    code = "model-load"


class SelfTestMismatch(InstallFailed):
    """Golden inputs gave other outputs than they must."""

    code = "self-test-mismatch"


class SelfTestCrashed(InstallFailed):
    """The model took its process down."""

    code = "self-test-crashed"


class SelfTestTimeout(InstallFailed):
    """The self-test did not end in time."""

    code = "self-test-timeout"


class SelfTestMemory(InstallFailed):
    """The model needs more memory than its budget."""

    code = "self-test-memory"


class SelfTestSlow(InstallFailed):
    """The model is slower than its budget."""

    code = "self-test-slow"


class ProbationFailed(InstallFailed):
    """The version failed on real requests."""

    code = "probation-failed"


class CrashLoop(InstallFailed):
    """The device went down too often in the middle of this install."""

    code = "crash-loop"


class Quarantined(InstallFailed):
    """This digest failed on this device before."""

    code = "quarantined"
    remedy = (
        "Mend the version and register a new one. If the device was to blame, mend that and ask again: "
        "`muster rollout retry ROLLOUT`, or on the device `muster-agent lift MODEL/VERSION`."
    )


class NotInQuarantine(AgentError):
    """The version was not kept from running here, so there is nothing to lift."""

    code = "not-in-quarantine"
    remedy = "See `muster-agent status` for what the device does with the version."


# --- Inference ------------------------------------------------------------------------------------


class InvalidRequest(AgentError):
    """A request does not fit the model's signature; the message names the input."""

    code = "invalid-request"
    remedy = "Compare the request with the model's metadata: GET /v2/models/MODEL."


class RequestTooLarge(InvalidRequest):
    """More bytes than one request may have."""

    code = "request-too-large"


class UnknownModel(AgentError):
    """No such model, or not that version, runs here."""

    code = "unknown-model"
    remedy = "List what runs here: GET /v2/models."


class NotReady(AgentError):
    """The model is assigned to this device, and does not answer yet, or no longer."""

    code = "not-ready"
    remedy = "See `muster-agent status` for what it waits for."


class InferenceFailed(AgentError):
    """The runtime failed on a request that fits the signature."""

    code = "inference-failed"


# --- Set-up ---------------------------------------------------------------------------------------


class ConfigError(AgentError):
    """The configuration is wrong; the message names the file and the key."""

    code = "config"
    remedy = "Correct the file; fleet_configs/agent.toml in the source lists every key."


class NotEnrolled(AgentError):
    """This device has no identity yet."""

    code = "not-enrolled"
    remedy = "Run `muster-agent enrol TOKEN` with a token from `muster token create`."


class AlreadyEnrolled(AgentError):
    """This device has an identity, which joining would replace."""

    code = "already-enrolled"
    remedy = "Nothing to do; to enrol it anew (after a revocation, say), add `--anew`."


class BadToken(AgentError):
    """What was given is not a join token."""

    code = "bad-token"
    remedy = "Copy the whole token, or make a new one with `muster token create`."


class ExpiredToken(BadToken):
    """The join token's time is over, by this device's clock."""

    code = "token-expired"
    remedy = "Check this device's clock, or make a new token with `muster token create`."


class StoreError(AgentError):
    """The agent's own files can't be read or written."""

    code = "store"
    remedy = "Check the disk and the owner of the agent's folder."


class HomeInUse(StoreError):
    """Another agent works in this folder; the message names its process."""

    code = "home-in-use"
    remedy = "Stop the other agent, or give this one a folder of its own."


class StoreCorrupt(StoreError):
    """The agent's database is damaged, or is not one."""

    code = "store-corrupt"
    remedy = (
        "Check the disk. Move the database (agent.sqlite, with -wal and -shm) away, enrol the device "
        "again, and its models come back by themselves."
    )


class StoreTooNew(StoreError):
    """A newer agent wrote the database; this one could only lose what it does not know."""

    code = "store-too-new"
    remedy = "Install the agent version that wrote it, or a later one."


class TrustDamaged(StoreError):
    """What the device trusts is not what it stored: nothing new is installed until that is mended."""

    code = "trust-damaged"
    remedy = "What runs goes on running. Check the disk, then enrol the device anew."

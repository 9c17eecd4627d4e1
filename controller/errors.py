"""Every way the controller can refuse or fail, each with its code and its remedy.

The code travels to the CLI, the web and the device; ``status`` is its HTTP status.
"""

from collections.abc import Sequence
from typing import ClassVar


class ControllerError(Exception):
    """The root of the tree.

    Attributes:
        code: stable and machine-readable.
        remedy: what a person can do, in plain words: its kind's, unless one is given.
        status: HTTP status.
        retry_after_ms: not now: the same may be asked again after so long; 0 where it would not help.
    """

    code: ClassVar[str] = "controller-error"
    remedy: str = "See the controller's log."
    status: ClassVar[int] = 500
    retry_after_ms: int = 0

    def __init__(self, detail: str = "", remedy: str = "") -> None:
        super().__init__(detail)
        if remedy:
            self.remedy = remedy

    @property
    def detail(self) -> str:
        """What is wrong, naming the field or the file."""
        return str(self)


class InvalidInput(ControllerError):
    """What a person or a peer sent can't be right; the message names the field or file."""

    code = "invalid-input"
    remedy = "Correct what the message names and try again."
    status = 422


class TooLarge(InvalidInput):
    """More bytes than allowed."""

    code = "too-large"
    status = 413


class NotFound(ControllerError):
    """No such thing."""

    code = "not-found"
    remedy = "List what there is: `muster device list`, `muster model list`, `muster rollout list`."
    status = 404


class Conflict(ControllerError):
    """It can't be done in the state that things are in; the message names the state."""

    code = "conflict"
    remedy = "Look at the present state and decide anew."
    status = 409


class NotAllowed(ControllerError):
    """The caller is known and may not do this."""

    code = "not-allowed"
    remedy = "Ask an administrator for a token with a higher role."
    status = 403


class NotAuthenticated(ControllerError):
    """The caller showed no valid credential."""

    code = "not-authenticated"
    remedy = "Log in with `muster login`, or ask an administrator for a token."
    status = 401


# --- Enrolment ------------------------------------------------------------------------------------


class TokenUnknown(ControllerError):
    """No join token of this controller."""

    code = "token-unknown"
    remedy = "Make a new one with `muster token create`."
    status = 403


class TokenUsed(ControllerError):
    """A join token serves once."""

    code = "token-used"
    remedy = (
        "Make a new one with `muster token create`; if nobody else should have it, see the audit."
    )
    status = 403


class TokenExpired(ControllerError):
    """The join token's time is over."""

    code = "token-expired"
    remedy = "Make a new one with `muster token create`."
    status = 403


class TooManyCalls(ControllerError):
    """One device asks more at once than any agent does."""

    code = "too-many-calls"
    remedy = "Wait for the answers to what was asked before."
    status = 429
    retry_after_ms = 1000


class TooOften(ControllerError):
    """One device asks the same more often than any agent does."""

    code = "too-often"
    remedy = "Nothing to do: the agent asks again by itself."
    status = 429

    def __init__(self, detail: str, retry_after_ms: int) -> None:
        super().__init__(detail)
        self.retry_after_ms = retry_after_ms


class TooManyAttempts(ControllerError):
    """Too many failed attempts to join from one address."""

    code = "too-many-attempts"
    remedy = "Wait a minute, then try again with a valid token."
    status = 429


class CertificateLapsed(ControllerError):
    """The device's certificate expired too long ago to be renewed."""

    code = "certificate-lapsed"
    remedy = "Enrol the device anew with a join token."
    status = 403


class BadRequestForCertificate(InvalidInput):
    """The certificate request is not one that is signed here."""

    code = "bad-csr"


class DeviceRevoked(ControllerError):
    """The device was revoked."""

    code = "device-revoked"
    remedy = "If the device shall come back, enrol it anew with a join token."
    status = 403


class DeviceUnknown(ControllerError):
    """No such device enrolled here."""

    code = "device-unknown"
    remedy = "Enrol the device with a join token."
    status = 403


class CounterReplayed(ControllerError):
    """A signed document whose counter was seen before."""

    code = "counter-replayed"
    remedy = (
        "Somebody repeats old messages, or a device's disk was restored from a copy: enrol it anew."
    )
    status = 409


class BadSignature(ControllerError):
    """Signed by nobody who may."""

    code = "bad-signature"
    remedy = "Sign with a key that is named as this model's approver, or as root or targets key."
    status = 403


class NotWhatWasShown(InvalidInput):
    """Metadata that waits for a signature does something else than the person was told.

    Attributes:
        objections: all of what is wrong with it.
    """

    code = "not-what-was-shown"
    remedy = "Do not sign. Find out who proposed this, and that the controller is your own."

    def __init__(self, objections: Sequence[str]) -> None:
        super().__init__("; ".join(objections))
        self.objections = tuple(objections)


# --- Fleet ----------------------------------------------------------------------------------------


class BadSelector(InvalidInput):
    """A selector can't be read; the message shows where."""

    code = "bad-selector"
    remedy = "Write it like `site=berlin and hw!=pi3 and memory_bytes>=512M`, or `all`."


# --- Rollouts -------------------------------------------------------------------------------------


class BadExpression(InvalidInput):
    """An expression of a gate can't be read; the message shows where."""

    code = "bad-expression"
    remedy = "Write it like `stage.error_rate <= 2 * control.error_rate + 0.001`."


# --- Registry -------------------------------------------------------------------------------------


class BadModel(InvalidInput):
    """The file is not a model that may run on a device; the message names file and reason."""

    code = "bad-model"


class BadReference(InvalidInput):
    """The reference data does not fit the model; the message names the array."""

    code = "bad-reference"


class DeviceOffline(ControllerError):
    """The device has no live link. Nothing is lost: it gets its directive when it comes."""

    code = "device-offline"
    remedy = "Nothing to do: the device learns it when it connects."
    status = 409


class StoreError(ControllerError):
    """The database or the blob folder can't be read or written."""

    code = "store"
    remedy = "Check the disk and the owner of the controller's folder."


class ConfigError(ControllerError):
    """The configuration is wrong; the message names the file and the key."""

    code = "config"
    remedy = "Correct the file; fleet_configs/controller.toml in the source lists every key."

"""Talks to the controller's REST API; every failure becomes a ``CommandFailed`` with its remedy."""

import time
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import quote

from controller.cli.output import CommandFailed, console
from controller.cli.profile import Profile, is_this_machine, read_profile

if TYPE_CHECKING:
    import ssl

    import httpx

Files = Mapping[str, tuple[str, IO[bytes]]]

ANSWER_SECONDS: Final = 60
START_SECONDS: Final = 5.0
"""So long a refused connection is tried again: a controller that was just started needs a while."""
BETWEEN_SECONDS: Final = 0.2
UPLOAD_SECONDS: Final = (
    900  # registration runs the model and calibrates its monitor before it answers
)

_NAMES: Final = "The `list` commands show the names."


class ApiClient:
    """One operator's connection. Use as a context manager."""

    def __init__(self, profile: Profile | None = None) -> None:
        import httpx  # noqa: PLC0415 - half of the time that --help would take

        self.profile = profile or read_profile()
        self._unreachable, self._unsayable = httpx.HTTPError, (httpx.InvalidURL, UnicodeError)
        self._http = httpx.Client(
            base_url=f"{self.profile.url.rstrip('/')}/api/v1",
            headers={"Authorization": f"Bearer {self.profile.token}"},
            verify=trusted(self.profile.ca),
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=15),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: object) -> Any:
        """The JSON that stands at ``path``; None values of ``query`` are left out."""
        params = {key: str(value) for key, value in query.items() if value is not None}
        return self._json("GET", path, params=params)

    def download(self, path: str) -> bytes:
        """The bytes that stand at ``path``."""
        return self._send("GET", path).content

    def pieces(self, path: str) -> Iterator[bytes]:
        """The bytes that stand at ``path``, piece by piece: for what is too large for the memory."""
        try:
            with self._http.stream("GET", path) as response:
                if not response.is_success:
                    response.read()
                    raise _failure(response)
                yield from response.iter_bytes()
        except self._unreachable as error:
            raise unreachable(self.profile.url, error, _REMEDIES) from error

    def post(self, path: str, body: object = None) -> Any:
        """The answer to ``body``."""
        return self._json("POST", path, json=body)

    def put(self, path: str, body: object = None) -> Any:
        """The answer to ``body``."""
        return self._json("PUT", path, json=body)

    def delete(self, path: str) -> Any:
        """The answer to a removal."""
        return self._json("DELETE", path)

    def upload(self, path: str, files: Files, fields: Mapping[str, str]) -> Any:
        """The answer to a multipart upload."""
        return self._json(
            "POST", path, files=dict(files), data=dict(fields), timeout=UPLOAD_SECONDS
        )

    def _json(self, method: str, path: str, **request: Any) -> Any:
        response = self._send(method, path, **request)
        try:
            return response.json()
        except ValueError as error:
            raise self.no_controller() from error

    def no_controller(self) -> CommandFailed:
        """What answers is something else."""
        return CommandFailed(
            "unreachable",
            f"{self.profile.url} does not answer as a controller does",
            "Check the address: is it the controller's API port?",
        )

    def _send(self, method: str, path: str, **request: Any) -> "httpx.Response":
        try:
            response = self._answer(method, path, **request)
        except self._unreachable as error:
            raise unreachable(self.profile.url, error, _REMEDIES) from error
        except self._unsayable as error:
            raise CommandFailed(
                "invalid-input", f"what was named can't be asked for: {error}", _NAMES
            ) from error
        if response.is_success:
            return response
        raise _failure(response)

    def _answer(self, method: str, path: str, **request: Any) -> "httpx.Response":
        """The answer; while nobody listens yet on this machine, asks again for a while.

        A refused connection has taken nothing, so nothing is done twice.
        """
        try:
            return self._http.request(method, path, **request)
        except self._unreachable as error:
            if not (is_this_machine(self.profile.url) and _is_refused(error)):
                raise
        with console(error=True).status("waiting for the controller …"):
            deadline = time.monotonic() + START_SECONDS
            while True:
                time.sleep(BETWEEN_SECONDS)
                try:
                    return self._http.request(method, path, **request)
                except self._unreachable as error:
                    if time.monotonic() > deadline or not _is_refused(error):
                        raise


def place(*segments: object) -> str:
    """A path of the API: ``place("devices", "cam-1")`` is ``/devices/cam-1``.

    Raises:
        CommandFailed: a segment can be no name.
    """
    texts = [str(one) for one in segments]
    for text in texts:
        if not text or "/" in text or text in {".", ".."}:
            raise CommandFailed("invalid-input", f"{text!r} is no name", _NAMES)
    return "".join(f"/{quote(text, safe='@', errors='surrogateescape')}" for text in texts)


class Remedies(NamedTuple):
    """What to do when there is no answer.

    Attributes:
        silent: nobody answers.
        plain: something answers, without TLS.
        stranger: it shows a certificate that the pinned CA has not signed, or for another name.
    """

    silent: str
    plain: str
    stranger: str


def _is_refused(error: Exception) -> bool:
    return any(isinstance(one, ConnectionRefusedError) for one in _causes(error))


def _causes(error: Exception) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def unreachable(where: str, error: Exception, remedies: Remedies) -> CommandFailed:
    """Why there was no answer, by what lies at the bottom of ``error``."""
    import ssl  # noqa: PLC0415 - quick --help

    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CommandFailed(
                "not-trusted", f"{where}: {cause.verify_message}", remedies.stranger
            )
        if isinstance(cause, ssl.SSLError):
            return CommandFailed("unreachable", f"{where}: it does not speak TLS", remedies.plain)
    why = str(error) or type(error).__name__
    return CommandFailed("unreachable", f"{where}: {why}", remedies.silent)


_REMEDIES: Final = Remedies(
    "Check that `muster serve` runs there and that the address is right.",
    "Check the address: is it the controller's API port?",
    "Something else answers there, or the certificate in your profile is another controller's: "
    "get its server-ca.crt, and log in anew with `muster login`.",
)


def trusted(ca: str) -> "ssl.SSLContext":
    """TLS with the controller whose server-ca.crt stands at ``ca``, and with no other.

    Raises:
        CommandFailed: there is no certificate.
    """
    import ssl  # noqa: PLC0415 - quick --help

    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror if not isinstance(error, ssl.SSLError) else "not a certificate in PEM"
        raise CommandFailed(
            "profile",
            f"{ca}: {why}",
            "Get server-ca.crt from the controller's folder, and log in anew with `muster login`.",
        ) from error


def _failure(response: "httpx.Response") -> CommandFailed:
    try:
        error = response.json()["error"]
        return CommandFailed(str(error["code"]), str(error["detail"]), str(error.get("remedy", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return CommandFailed(
            "http",
            f"{response.url}: {response.status_code} {response.reason_phrase}",
            "Check the address: is it the controller's API port?",
        )

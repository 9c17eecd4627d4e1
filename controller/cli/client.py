"""Talks to the controller's REST API; every failure becomes a ``CommandFailed`` with its remedy."""

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from controller.cli.output import CommandFailed
from controller.cli.profile import Profile, read_profile

if TYPE_CHECKING:
    import ssl

    import httpx

Files = Mapping[str, tuple[str, IO[bytes]]]

ANSWER_SECONDS: Final = 60
UPLOAD_SECONDS: Final = (
    900  # registration runs the model and calibrates its monitor before it answers
)


class ApiClient:
    """One operator's connection. Use as a context manager."""

    def __init__(self, profile: Profile | None = None) -> None:
        import httpx  # noqa: PLC0415 - half of the time that --help would take

        self.profile = profile or read_profile()
        self._failures = (httpx.HTTPError, httpx.InvalidURL)
        self._http = httpx.Client(
            base_url=f"{self.profile.url}/api/v1",
            headers={"Authorization": f"Bearer {self.profile.token}"},
            verify=_trusted(self.profile.ca),
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
            raise CommandFailed(
                "unreachable",
                f"{self.profile.url} does not answer as a controller does",
                "Check the address: is it the controller's API port?",
            ) from error

    def _send(self, method: str, path: str, **request: Any) -> "httpx.Response":
        try:
            response = self._http.request(method, path, **request)
        except self._failures as error:
            raise CommandFailed(
                "unreachable",
                f"{self.profile.url}: {_cause(error)}",
                "Check that `muster serve` runs there and that the address is right.",
            ) from error
        if response.is_success:
            return response
        raise _failure(response)


def place(*segments: object) -> str:
    """A path of the API: ``place("devices", "cam-1")`` is ``/devices/cam-1``.

    Raises:
        CommandFailed: a segment can be no name.
    """
    texts = [str(one) for one in segments]
    for text in texts:
        if not text or "/" in text or text in {".", ".."}:
            raise CommandFailed(
                "invalid-input", f"{text!r} is no name", "The `list` commands show the names."
            )
    return "".join(f"/{quote(text, safe='@')}" for text in texts)


def _trusted(ca: str) -> "ssl.SSLContext":
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


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__


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

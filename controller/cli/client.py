"""Talks to the controller's REST API; every failure becomes a ``CommandFailed`` with its remedy."""

import ssl
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Self

from controller.cli.output import CommandFailed
from controller.cli.profile import Profile, read_profile

if TYPE_CHECKING:
    import httpx

Files = Mapping[str, tuple[str, IO[bytes]]]


class ApiClient:
    """One operator's connection. Use as a context manager."""

    def __init__(self, profile: Profile | None = None) -> None:
        import httpx  # noqa: PLC0415 - half of the time that --help would take

        self.profile = profile or read_profile()
        try:
            context = ssl.create_default_context(cafile=self.profile.ca)
        except (OSError, ssl.SSLError) as error:
            raise CommandFailed("profile", f"{self.profile.ca}: {error}", "Log in anew.") from error
        self._failures = httpx.HTTPError
        self._http = httpx.Client(
            base_url=f"{self.profile.url}/api/v1",
            headers={"Authorization": f"Bearer {self.profile.token}"},
            verify=context,
            timeout=httpx.Timeout(30, read=600),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: object) -> Any:
        """The JSON that stands at ``path``; None values of ``query`` are left out."""
        params = {key: str(value) for key, value in query.items() if value is not None}
        return self._send("GET", path, params=params).json()

    def download(self, path: str) -> bytes:
        """The bytes that stand at ``path``."""
        return self._send("GET", path).content

    def post(self, path: str, body: object = None) -> Any:
        """The answer to ``body``."""
        return self._send("POST", path, json=body).json()

    def put(self, path: str, body: object = None) -> Any:
        """The answer to ``body``."""
        return self._send("PUT", path, json=body).json()

    def delete(self, path: str) -> Any:
        """The answer to a removal."""
        return self._send("DELETE", path).json()

    def upload(self, path: str, files: Files, fields: Mapping[str, str]) -> Any:
        """The answer to a multipart upload."""
        return self._send("POST", path, files=dict(files), data=dict(fields)).json()

    def _send(self, method: str, path: str, **request: Any) -> "httpx.Response":
        try:
            response = self._http.request(method, path, **request)
        except self._failures as error:
            raise CommandFailed(
                "unreachable",
                f"{self.profile.url}: {error}",
                "Check that `muster serve` runs there and that the address is right.",
            ) from error
        if response.is_success:
            return response
        raise _failure(response)


def _failure(response: "httpx.Response") -> CommandFailed:
    try:
        error = response.json()["error"]
        return CommandFailed(error["code"], error["detail"], error.get("remedy", ""))
    except (ValueError, KeyError, TypeError):
        return CommandFailed("http", f"{response.status_code} {response.reason_phrase}")

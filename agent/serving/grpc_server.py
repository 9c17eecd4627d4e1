"""The gRPC face of the Open Inference Protocol, version 2."""

from collections.abc import Iterable
from typing import Any, Final, NoReturn, TypeVar

import grpc
import grpc.aio

from agent.errors import (
    AgentError,
    ConfigError,
    InvalidRequest,
    NotReady,
    Overloaded,
    RequestTooLarge,
    UnknownModel,
)
from agent.inference.actions import infer
from agent.serving.collecting import NOTHING, Collecting
from agent.serving.description import (
    EXTENSIONS,
    PLATFORM,
    SERVER_NAME,
    SERVER_VERSION,
    Hosting,
    described,
    is_ready,
    version_of,
)
from agent.serving.grpc_messages import inputs_of, of_answer
from agent.serving.server import check_host
from agent.serving.workers import Workers
from protos.limits import INFER_BYTES, MIB
from protos.manifest import Tensor
from protos.open_inference import inference_pb2 as pb
from protos.open_inference import inference_pb2_grpc as rpc

STOP_SECONDS: Final = 10.0

# The first class that fits decides.
_STATUS: Final[tuple[tuple[type[AgentError], grpc.StatusCode], ...]] = (
    (RequestTooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (NotReady, grpc.StatusCode.UNAVAILABLE),
    (Overloaded, grpc.StatusCode.UNAVAILABLE),
)

Q = TypeVar("Q")
A = TypeVar("A")
Context = grpc.aio.ServicerContext[Any, Any]


class _Service(rpc.GRPCInferenceServiceServicer):
    """Answers RPCs; the base class only says which there are."""

    def __init__(self, hosting: Hosting, workers: Workers, collecting: Collecting) -> None:
        self._hosting = hosting
        self._workers = workers
        self._collecting = collecting

    async def ServerLive(  # noqa: N802 - the protocol's name, as those below
        self, _request: pb.ServerLiveRequest, _context: Context
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, _request: pb.ServerReadyRequest, _context: Context
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._hosting.ready())

    async def ModelReady(  # noqa: N802
        self, request: pb.ModelReadyRequest, _context: Context
    ) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=is_ready(self._hosting, request.name, request.version))

    async def ServerMetadata(  # noqa: N802
        self, _request: pb.ServerMetadataRequest, _context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=SERVER_VERSION, extensions=EXTENSIONS
        )

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        try:
            manifest, versions = described(self._hosting, request.name, request.version)
        except AgentError as error:
            await _abort(context, error)
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=versions,
            platform=PLATFORM,
            inputs=_tensors(manifest.inputs),
            outputs=_tensors(manifest.outputs),
        )

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        try:
            return await self._workers.run(lambda: self._answer(request))
        except AgentError as error:
            await _abort(context, error)

    def _answer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        model = request.model_name
        version = version_of(model, request.model_version)
        wanted = [output.name for output in request.outputs]
        inputs = inputs_of(request)
        answer = infer(self._hosting, model, version, inputs, wanted)
        self._collecting.answered(model, answer.version, request.id, inputs)
        return of_answer(request, answer)


async def _abort(context: Context, error: AgentError) -> NoReturn:
    status = next(
        (status for kind, status in _STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL
    )
    await context.abort(status, error.detail)


def _tensors(tensors: Iterable[Tensor]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [
        pb.ModelMetadataResponse.TensorMetadata(name=one.name, datatype=one.dtype, shape=one.shape)
        for one in tensors
    ]


class GrpcServer:
    """The gRPC face; see ``agent.serving.server.Server``."""

    def __init__(
        self,
        hosting: Hosting,
        workers: Workers,
        *,
        allow_remote: bool = False,
        limit: int = INFER_BYTES,
        collecting: Collecting = NOTHING,
    ) -> None:
        self._service = _Service(hosting, workers, collecting)
        self._allow_remote = allow_remote
        self._limit = limit
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Answers from now on; returns the port.

        Raises:
            ConfigError: the address can't be bound, or is not of this machine alone.
        """
        check_host(host, allow_remote=self._allow_remote)
        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", self._limit + MIB),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # two agents on one port would share its requests
            )
        )
        rpc.add_GRPCInferenceServiceServicer_to_server(self._service, server)
        address = "127.0.0.1" if host == "localhost" else host
        try:
            bound = server.add_insecure_port(
                f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            )
        except RuntimeError as error:
            raise ConfigError(f"serving.grpc_port: {host}:{port} can't be bound") from error
        await server.start()
        self._server = server
        return bound

    async def stop(self) -> None:
        """Takes no new requests, and returns when those under way are answered."""
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
            self._server = None

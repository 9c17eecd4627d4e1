"""What the controller commands, and who carries it out."""

import logging
from collections.abc import Callable

from google.protobuf.message import DecodeError

from agent.trust.loop import DirectiveLoop, RefreshLoop
from protos.v1 import command_pb2, federated_pb2

log = logging.getLogger(__name__)


class Commands:
    """Hands serialised ``muster.v1.Command``s on; what can't be read is logged, and dropped.

    Its attributes are set once, before there is any connection.
    """

    directives: DirectiveLoop
    refreshes: RefreshLoop
    federated: Callable[[federated_pb2.FederatedOrder], None]

    async def take(self, command: bytes) -> None:
        """Returns when the command is carried out, or kept for later."""
        message = _read(command)
        match message.WhichOneof("kind"):
            case "directive":
                await self.directives.take(message.directive.SerializeToString())
            case "refresh_trust":
                self.refreshes.trigger()
            case "federated":
                self.federated(message.federated)
            case _:
                log.warning("command.unknown bytes=%d", len(command))

    def offer(self, command: bytes) -> None:
        """As ``take``, soon: what stands at a broker is as good as what a controller sends."""
        message = _read(command)
        if message.HasField("directive"):
            self.directives.offer(message.directive.SerializeToString())


def _read(command: bytes) -> command_pb2.Command:
    try:
        return command_pb2.Command.FromString(command)
    except DecodeError:
        return command_pb2.Command()  # of no kind

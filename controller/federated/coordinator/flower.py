"""The one adapter to Flower: its strategies behind ``Strategy``, and a ``Grid`` over the exchange.

Everything else of a coordinator knows messages as ``muster.flower.v1`` and arrays as numpy's.
"""

import io
import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast

import flwr.serverapp.strategy as flower
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp

from agent.federated.reply import EXAMPLES, METRICS
from controller.federated.coordinator import flower_private
from controller.federated.coordinator.checkpoint import State, keeps
from controller.federated.coordinator.errors import AppUnfit, NoAggregate, TooFewDevices
from controller.federated.coordinator.flower_strategies import flower_strategy
from controller.federated.coordinator.journal import Journal
from controller.federated.coordinator.request import (
    ARRAYS,
    Request,
    Scalar,
    arrays_of,
    shapes_of,
)
from controller.federated.coordinator.shipped import shipped
from controller.federated.coordinator.strategy import Aggregate, Update
from controller.federated.exchange import Exchange
from controller.federated.plan import Plan, StrategyName
from protos.flower import message_pb2
from protos.flower.arrays import NPY, npy

logging.getLogger("flwr").setLevel(logging.WARNING)  # its import sets another level

_SUMS: Final = frozenset(
    {
        StrategyName.FED_AVG,
        StrategyName.FED_PROX,
        StrategyName.FED_AVG_M,
        StrategyName.FED_ADAM,
        StrategyName.FED_YOGI,
        StrategyName.FED_ADAGRAD,
    }
)
"""Flower's own code does their server's step; of the replies it needs no more than the mean."""

ENOUGH_LOOKS: Final = 4
"""A strategy that looks so often for nodes while it configures a round waits for more of them."""

DriveApp = Callable[[Exchange, Plan, bytes], None]

RECORD: Final = "flower.ArrayRecord"
INNER: Final = "flower.Strategy"


def strategy_of(plan: Plan, run: int) -> "FlowerStrategy":
    """The strategy that the run file names, with its parameters."""
    flower_private.identify(run)
    name = plan.strategy.name
    # Who is asked is decided outside: it asks all nodes that it is shown.
    everybody = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
    return FlowerStrategy(flower_strategy(plan, **everybody), sums=name in _SUMS, chooses=False)


def users_strategy(strategy: flower.Strategy, run: int) -> "FlowerStrategy":
    """A strategy object of a user's own."""
    flower_private.identify(run)
    return FlowerStrategy(strategy, sums=False, chooses=True)


class FlowerStrategy:
    """A Flower strategy, driven through its public hooks; see ``Strategy``."""

    def __init__(self, strategy: flower.Strategy, *, sums: bool, chooses: bool) -> None:
        self._strategy = strategy
        self._asked: dict[int, Message] = {}
        self.sums = sums
        self.chooses = chooses

    @property
    def fewest(self) -> int:
        """As it says, or a strategy that it wraps: Flower's own would wait without end."""
        return _fewest(self._strategy)

    def configure(
        self,
        round_: int,
        arrays: bytes,
        config: Mapping[str, Scalar],
        nodes: Sequence[int],
        seed: int,
    ) -> Sequence[Request]:
        """The requests of ``configure_train``."""
        _seed(seed)
        record = _record(arrays_of(arrays))
        messages = self._strategy.configure_train(
            round_, record, ConfigRecord(dict(config)), _Listed(nodes)
        )
        asked = list(messages)
        self._asked = {one.metadata.dst_node_id: one for one in asked}
        return requests_of(asked)

    def aggregate(self, round_: int, updates: Iterable[Update], seed: int) -> Aggregate:
        """What ``aggregate_train`` makes of the updates."""
        _seed(seed)
        replies = [self._reply(one) for one in updates]
        try:
            arrays, metrics = self._strategy.aggregate_train(round_, replies)
        except (
            flower_private.FlowerFailed,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            name = type(self._strategy).__name__
            raise NoAggregate(f"{name} makes nothing of {len(replies)} replies: {error}") from error
        if arrays is None:
            raise NoAggregate(f"{type(self._strategy).__name__} has left the round out")
        own = {
            key: float(value)
            for key, value in (metrics or {}).items()
            if not isinstance(value, list)
        }
        return Aggregate({key: array.numpy() for key, array in arrays.items()}, own)

    def _reply(self, update: Update) -> Message:
        metrics = MetricRecord({**update.metrics, EXAMPLES: update.weight})
        content = RecordDict({ARRAYS: _record(update.arrays), METRICS: metrics})
        asked = self._asked.get(update.node)
        if asked is None and self.sums:  # of a mean there is no node: whichever was asked first
            asked = next(iter(self._asked.values()))
        if asked is None:  # it was asked before a restart, after which the strategy chose anew
            asked = Message(RecordDict(), update.node, "train")
        return Message(content, reply_to=asked)

    def state(self) -> Mapping[str, State]:
        """All attributes that are numbers, texts, arrays, or made of them."""
        return _state_of(self._strategy)

    def restore(self, state: Mapping[str, State]) -> None:
        """Sets them."""
        _set_state(self._strategy, state)


def _fewest(strategy: flower.Strategy) -> int:
    own = [getattr(strategy, name, 1) for name in ("min_available_nodes", "min_train_nodes")]
    inner = [_fewest(one) for one in vars(strategy).values() if isinstance(one, flower.Strategy)]
    return max(one for one in (*own, *inner) if isinstance(one, int))


def _state_of(strategy: flower.Strategy) -> dict[str, State]:
    state: dict[str, State] = {}
    for name, value in vars(strategy).items():
        if isinstance(value, ArrayRecord):
            state[name] = {RECORD: {key: one.numpy() for key, one in value.items()}}
        elif isinstance(value, flower.Strategy):
            state[name] = {INNER: _state_of(value)}
        elif keeps(value):
            state[name] = value
    return state


def _set_state(strategy: flower.Strategy, state: Mapping[str, State]) -> None:
    for name, value in state.items():
        if isinstance(value, dict) and set(value) == {RECORD}:
            arrays = cast("Mapping[str, Any]", value[RECORD])
            setattr(strategy, name, ArrayRecord({key: Array(one) for key, one in arrays.items()}))
        elif isinstance(value, dict) and set(value) == {INNER}:
            _set_state(getattr(strategy, name), cast("Mapping[str, State]", value[INNER]))
        else:
            setattr(strategy, name, value)


def _record(arrays: Mapping[str, Any]) -> ArrayRecord:
    return ArrayRecord({key: Array(np.asarray(one)) for key, one in arrays.items()})


def _seed(seed: int) -> None:
    """Flower draws from the process's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


def requests_of(messages: Iterable[Message]) -> list[Request]:
    """The messages without Flower; what they share is written once, and shared again."""
    written: dict[
        int, tuple[RecordDict, message_pb2.RecordDict, tuple[tuple[str, bytes], ...]]
    ] = {}
    requests = []
    for one in messages:
        shared = written.get(id(one.content))
        if shared is None:  # the content is kept with it, so that no other gets its id
            shared = written[id(one.content)] = (one.content, *_apart(one))
        message = message_pb2.Message(content=shared[1])
        message.metadata.message_type = one.metadata.message_type
        message.metadata.group_id = one.metadata.group_id
        requests.append(Request(one.metadata.dst_node_id, message, shared[2]))
    return requests


def _apart(message: Message) -> tuple[message_pb2.RecordDict, tuple[tuple[str, bytes], ...]]:
    """A message's content without its arrays, and these as bytes."""
    content = message_pb2.Message.FromString(flower_private.written(message)).content
    arrays, others = [], []
    for item in content.items:
        if item.WhichOneof("value") == "array_record":
            arrays.append((item.key, _pinned(item.array_record)))
        else:
            others.append(item)
    return message_pb2.RecordDict(items=others), tuple(arrays)


def _pinned(record: message_pb2.ArrayRecord) -> bytes:
    """The record's bytes, with float32 for float64: some of Flower's own strategies widen arrays."""
    for item in record.items:
        if item.value.dtype == "float64" and item.value.stype == NPY:
            array = np.load(io.BytesIO(item.value.data), allow_pickle=False)
            item.value.CopyFrom(npy(np.asarray(array, np.float32)))
    return record.SerializeToString(deterministic=True)


class _Listed(Grid):
    """What a strategy sees while it configures a round: these nodes."""

    def __init__(self, nodes: Sequence[int]) -> None:
        self._nodes = nodes
        self._looks = 0

    def get_node_ids(self) -> Iterable[int]:
        self._looks += 1
        if self._looks > ENOUGH_LOOKS:
            raise TooFewDevices(f"{len(self._nodes)} are ready, and the strategy waits for more")
        return list(self._nodes)

    @property
    def run(self) -> Any:
        return SimpleNamespace(run_id=0)

    def set_run(self, run: Any) -> None:
        """There is one only."""

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError


class FleetGrid(_Listed):
    """Flower's ``Grid`` over the exchange, for an app of a user's own: see ``Journal``."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(())
        self._journal = journal
        self._steps: dict[str, int] = {}
        self._replies: dict[str, Message] = {}

    @property
    def run(self) -> Any:
        """Its id, which is all that strategies and apps look at."""
        return SimpleNamespace(run_id=self._journal.number)

    def get_node_ids(self) -> Iterable[int]:
        """Devices that would take part now; the same again when the run is resumed."""
        return list(self._journal.node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Asks; the replies are there for ``pull_messages`` when the phase is over."""
        sent = self._journal.send(requests_of(messages))
        for task, data in sent.replies.items():
            self._replies[task] = flower_private.read(data)
        return list(sent.ids)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that there are, each once."""
        return [self._replies.pop(one) for one in message_ids if one in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Asks, and returns what came until quorum or deadline, by node id."""
        sent = self._journal.send(requests_of(messages), timeout)
        return [flower_private.read(data) for data in sent.replies.values()]


def drive_app(app: ServerApp, exchange: Exchange, plan: Plan, initial: bytes) -> None:
    """Runs a user's own app from its start to its end, and says that the run is done.

    Its phases that are closed already are answered as they were. It finds the parent's parameters in
    ``context.state["arrays"]``, and may leave its own there; else they are the ``Result`` of its last
    ``Strategy.start``. Devices evaluate both, as the plan has it: an app's own evaluations are its own.

    Raises:
        AppUnfit: it left no parameters, or others than the parent has.
        Stopped, TooFewDevices, AppNotDeterministic: as ``Journal``.
    """
    journal = Journal(exchange, plan, exchange.put_arrays(initial))
    flower_private.identify(journal.number)
    _seed(plan.run.seed)
    if plan.evaluation.before and not journal.begun_by_app:
        journal.evaluate(initial, 0)
    before = _record(arrays_of(initial))
    context = Context(
        run_id=journal.number,
        node_id=flower_private.SERVER,
        node_config={},
        state=RecordDict({ARRAYS: before}),
        run_config=dict(plan.config),
    )
    with flower_private.results() as results:
        app(FleetGrid(journal), context)
    left = context.state.get(ARRAYS)
    if left is before or not isinstance(left, ArrayRecord):
        left = results[-1].arrays if results else None
    if not left:
        raise AppUnfit("it has left no parameters")
    final = _serialised(left)
    if shapes_of(final) != shapes_of(initial):
        raise AppUnfit(
            "the parameters that it left are not those of the version that it began with"
        )
    if plan.evaluation.after:
        journal.evaluate(shipped(plan, initial, final), journal.round)
    exchange.finish(exchange.put_arrays(final))


def _serialised(record: ArrayRecord) -> bytes:
    message = Message(RecordDict({ARRAYS: record}), flower_private.SERVER, "query")
    read = message_pb2.Message.FromString(flower_private.written(message))
    return _pinned(read.content.items[0].array_record)


def app_of(found: object, name: str, run: int) -> "FlowerStrategy | DriveApp":
    """What ``module:app`` names: a strategy to be driven, or an app that drives itself.

    Raises:
        AppUnfit: it is neither.
    """
    if isinstance(found, flower.Strategy):
        return users_strategy(found, run)
    if isinstance(found, ServerApp):
        return partial(drive_app, found)
    raise AppUnfit(f"{name}: {type(found).__name__} is neither a ServerApp nor a Strategy")

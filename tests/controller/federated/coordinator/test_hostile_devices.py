"""One device can neither stop a round nor own it: the result is that of the run without the hostile ones."""

import io
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from agent.federated.evaluation import Evaluation
from agent.federated.reply import METRICS, evaluate_reply
from agent.federated.update import as_floats, as_steps
from controller.federated.coordinator.admission import Code
from controller.federated.coordinator.buffered_driver import BufferedDriver
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.flower import strategy_of
from controller.federated.coordinator.request import arrays_of
from controller.federated.evaluation_told import evaluation_of
from controller.federated.exchange import PhaseRecord
from controller.federated.run import RunState
from controller.federated.task import Phase, Task, TaskState, node_id
from protos.flower import message_pb2
from protos.flower.arrays import INT8_STEP, NPY, int8_step, npy
from protos.int8_step import Int8Step
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.pretend import (
    Floats,
    Learner,
    declining,
    devices,
    initial,
    ledger,
    plan,
    reply,
)

Arrays = dict[str, Floats]
WEIGHT: dict[str, float] = {"num-examples": 40}


def given(message: message_pb2.Message) -> Arrays:
    record = next(item for item in message.content.items if item.HasField("array_record"))
    return arrays_of(record.array_record.SerializeToString(deterministic=True))


def learnt(message: message_pb2.Message) -> message_pb2.ArrayRecord:
    """An update as an honest device might send it."""
    before = given(message)
    after = {name: (array + 0.01).astype(np.float32) for name, array in before.items()}
    return as_floats(before, after).record


def with_arrays(change: Callable[[Arrays], Arrays]) -> Callable[..., bytes]:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        record = message_pb2.ArrayRecord()
        for name, array in change(given(message)).items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            value = message_pb2.Array(
                dtype=array.dtype.name, shape=array.shape, stype=NPY, data=buffer.getvalue()
            )
            record.items.add(key=name, value=value)
        return reply(message, record, WEIGHT)

    return answer


def with_metrics(metrics: dict[str, float]) -> Callable[..., bytes]:
    return lambda message, _: reply(message, learnt(message), metrics)


def always(data: bytes) -> Callable[..., bytes]:
    return lambda _, __: data


def with_weight_array(value: message_pb2.Array) -> Callable[..., bytes]:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        record = learnt(message)
        next(item for item in record.items if item.key == "weight").value.CopyFrom(value)
        return reply(message, record, WEIGHT)

    return answer


def with_message(change: Callable[[message_pb2.Message], None]) -> Callable[..., bytes]:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        made = message_pb2.Message.FromString(reply(message, learnt(message), WEIGHT))
        change(made)
        return made.SerializeToString()

    return answer


def bomb(header: str) -> message_pb2.Array:
    text = header.encode().ljust(118) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    return message_pb2.Array(dtype="float32", shape=[6, 3], stype=NPY, data=data)


def stepping(scale: float) -> Callable[..., bytes]:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        before = given(message)
        record = as_steps(before, before, {}).record
        for item in record.items:
            shape = before[item.key].shape
            step = int8_step(Int8Step(np.float32(scale), np.full(shape, 127, np.int8)))
            item.value.CopyFrom(step)
        return reply(message, record, WEIGHT)

    return answer


def twice(message: message_pb2.Message) -> None:
    record = message.content.items[0].array_record
    record.items.add().CopyFrom(record.items[0])


def another_metric_record(message: message_pb2.Message) -> None:
    message.content.items.add().CopyFrom(message.content.items[1])


def without_metrics(message: message_pb2.Message) -> None:
    del message.content.items[1]


def without_weight(message: message_pb2.Message) -> None:
    message.content.items[1].metric_record.items[0].key = "examples"


def listed_weight(message: message_pb2.Message) -> None:
    message.content.items[1].metric_record.items[0].value.sint_list.vals.append(40)


def of_another_task(message: message_pb2.Message) -> None:
    message.metadata.reply_to_message_id = "somebody-elses"


def under_another_key(message: message_pb2.Message) -> None:
    message.content.items[0].key = "weights"


def unknown_encoding(message: message_pb2.Message) -> None:
    message.content.items[0].array_record.items[0].value.stype = "pickle"


def many_metrics(message: message_pb2.Message) -> None:
    for number in range(300):
        record = message.content.items[1].metric_record
        record.items.add(key=f"m{number}").value.double = 1.0


def without_value(message: message_pb2.Message) -> None:
    message.content.items[1].metric_record.items.add(key="x")


def configured(message: message_pb2.Message) -> None:
    message.content.items.add(key="config").config_record.items.add(key="a").value.string = "b"


def spoilt(value: float) -> Callable[[Arrays], Arrays]:
    def change(arrays: Arrays) -> Arrays:
        arrays["weight"] = arrays["weight"].copy()
        arrays["weight"][0, 0] = value
        return arrays

    return change


ATTACKS: dict[str, tuple[Callable[..., bytes], Code]] = {
    "NaN": (with_arrays(spoilt(np.nan)), Code.NOT_FINITE),
    "infinity": (with_arrays(spoilt(np.inf)), Code.NOT_FINITE),
    "an extra array": (
        with_arrays(lambda found: {**found, "more": np.ones(3, np.float32)}),
        Code.KEYS,
    ),
    "an array less": (with_arrays(lambda found: {"bias": found["bias"]}), Code.KEYS),
    "an array twice": (with_message(twice), Code.KEYS),
    "another shape": (
        with_arrays(lambda found: {**found, "bias": np.ones(4, np.float32)}),
        Code.ARRAY,
    ),
    "a shape that broadcasts": (
        with_arrays(lambda found: {**found, "bias": np.ones(1, np.float32)}),
        Code.ARRAY,
    ),
    "a scalar": (
        with_arrays(lambda found: {**found, "bias": np.ones((), np.float32)}),
        Code.ARRAY,
    ),
    "float64": (
        with_arrays(lambda found: {**found, "bias": np.ones(3, np.float64)}),
        Code.ARRAY,
    ),
    "int64": (with_arrays(lambda found: {**found, "bias": np.ones(3, np.int64)}), Code.ARRAY),
    "text": (with_arrays(lambda found: {**found, "bias": np.array(["a", "b", "c"])}), Code.ARRAY),
    "big endian": (
        with_arrays(lambda found: {**found, "bias": np.ones(3, ">f4")}),
        Code.ARRAY,
    ),
    "Fortran order": (
        with_arrays(lambda found: {**found, "weight": np.asfortranarray(found["weight"])}),
        Code.ARRAY,
    ),
    "a header of four terabytes": (
        with_weight_array(
            bomb("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }")
        ),
        Code.ARRAY,
    ),
    "a header of objects": (
        with_weight_array(bomb("{'descr': '|O', 'fortran_order': False, 'shape': (6, 3), }")),
        Code.ARRAY,
    ),
    "a header that is nested": (with_weight_array(bomb("(" * 110)), Code.ARRAY),
    "a header that ends in a text": (with_weight_array(bomb("{'descr': '<f4")), Code.ARRAY),
    "a header that calls": (with_weight_array(bomb("__import__('os').getcwd()")), Code.ARRAY),
    "a header with too many dimensions": (
        with_weight_array(
            bomb("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 30 + "), }")
        ),
        Code.ARRAY,
    ),
    "a pickle": (
        with_weight_array(message_pb2.Array(dtype="float32", stype=NPY, data=b"\x80\x04N.")),
        Code.ARRAY,
    ),
    "an unknown encoding": (with_message(unknown_encoding), Code.ARRAY),
    "a step that is too short": (
        with_weight_array(message_pb2.Array(stype=INT8_STEP, data=b"\x00" * 9)),
        Code.ARRAY,
    ),
    "a step of infinite scale": (stepping(np.inf), Code.ARRAY),
    "a step of negative scale": (stepping(-1.0), Code.ARRAY),
    "a step beyond float32": (stepping(3e38), Code.NOT_FINITE),
    "a weight of 1e12": (with_metrics({"num-examples": 1e12}), Code.WEIGHT),
    "a negative weight": (with_metrics({"num-examples": -50}), Code.WEIGHT),
    "a weight of zero": (with_metrics({"num-examples": 0}), Code.WEIGHT),
    "a weight of NaN": (with_metrics({"num-examples": float("nan")}), Code.NOT_FINITE),
    "no weight": (with_message(without_weight), Code.WEIGHT),
    "a list as weight": (with_message(listed_weight), Code.WEIGHT),
    "an infinite metric": (
        with_metrics({"num-examples": 40, "train_loss": float("inf")}),
        Code.NOT_FINITE,
    ),
    "no metrics": (with_message(without_metrics), Code.RECORDS),
    "two metric records": (with_message(another_metric_record), Code.RECORDS),
    "a configuration": (with_message(configured), Code.RECORDS),
    "three hundred metrics": (with_message(many_metrics), Code.METRICS),
    "a metric without value": (with_message(without_value), Code.METRICS),
    "another key": (with_message(under_another_key), Code.RECORDS),
    "another task": (with_message(of_another_task), Code.ANOTHER_TASK),
    "junk": (always(b"\xff" * 100), Code.MALFORMED),
    "nothing": (always(b""), Code.ANOTHER_TASK),
    "a huge message": (always(b"\x00" * 200_000), Code.TOO_LARGE),
    "a huge update": (
        with_arrays(lambda found: {name: array + 1000 for name, array in found.items()}),
        Code.NORM,
    ),
    "a long update": (
        with_arrays(lambda found: {name: array + 10 for name, array in found.items()}),
        Code.NORM_OF_COHORT,
    ),
}
PLAN = plan(
    run={"rounds": 2},
    admission={"norm_bound": 100.0, "norm_ratio": 5.0},
    round={"over_selection": 1.0},
)


def driven(found: Ledger) -> Ledger:
    Driver(MemoryExchange(found), PLAN, strategy_of(PLAN, 77), initial()).drive()
    return found


@pytest.fixture(scope="module")
def honest() -> str:
    """What the honest devices come to by themselves."""
    return driven(ledger(devices(4))).final_sha256


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_reply_is_refused_with_its_code_and_changes_nothing(
    name: str, honest: str
) -> None:
    attack, code = ATTACKS[name]
    found = driven(ledger([*devices(4), MemoryDevice("cam-9", attack, 10)]))

    assert found.run.state is RunState.FINISHED
    assert found.final_sha256 == honest
    told = {task.code for task in found.tasks.values() if task.state is TaskState.REFUSED}
    assert told == {code}
    assert [(one.admitted, one.refused, one.reasons) for one in found.phases] == [
        (4, 1, {code: 1}),
        (4, 1, {code: 1}),
    ]


def test_all_of_them_together_stop_nothing(honest: str) -> None:
    hostile = [
        MemoryDevice(f"bad-{number}", attack, 10 + number)
        for number, (attack, code) in enumerate(ATTACKS.values())
        if code
        is not Code.NORM_OF_COHORT  # with the rest refused, it would be judged by the median
    ]

    found = driven(ledger([*devices(4), *hostile]))

    assert found.final_sha256 == honest
    assert found.phases[0].refused == len(hostile)


def test_a_decline_is_told_with_its_code_and_its_words() -> None:
    found = driven(ledger([*devices(3), MemoryDevice("cam-9", declining)]))

    declined = [task for task in found.tasks.values() if task.state is TaskState.DECLINED]
    assert {(task.code, task.reason) for task in declined} == {
        ("on-battery", "not while it runs dry")
    }
    assert found.phases[0].reasons == {"on-battery": 1}


def test_a_reason_that_is_no_code_and_words_is_kept_as_words() -> None:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        made = message_pb2.Message()
        made.metadata.reply_to_message_id = task.id
        made.error.reason = "<script>: " + "x" * 9000
        return made.SerializeToString()

    found = driven(ledger([*devices(3), MemoryDevice("cam-9", answer)]))

    (task, *_) = [one for one in found.tasks.values() if one.state is TaskState.DECLINED]
    assert task.code == Code.DECLINED
    assert len(task.reason) <= 300


def test_many_examples_weigh_as_much_as_is_allowed_and_no_more() -> None:
    def owning(examples: int) -> Ledger:
        capped = plan(run={"rounds": 1}, admission={"most_examples": 50})
        found = ledger(
            [*devices(3), MemoryDevice("cam-9", with_metrics({"num-examples": examples}))]
        )
        Driver(MemoryExchange(found), capped, strategy_of(capped, 77), initial()).drive()
        return found

    assert owning(1_000_000).final_sha256 == owning(50).final_sha256
    assert owning(40).final_sha256 != owning(50).final_sha256


def test_a_reply_to_an_evaluation_that_does_not_add_up_is_left_out() -> None:
    def lying(message: message_pb2.Message, task: Task) -> bytes:
        made = message_pb2.Message()
        made.metadata.reply_to_message_id = task.id
        record = made.content.items.add(key=METRICS).metric_record
        for key in ("examples", "judged"):
            record.items.add(key=key).value.sint64 = 10
        record.items.add(key="correct").value.sint64 = 11
        for key in ("loss-sum", "absolute-error-sum", "squared-error-sum"):
            record.items.add(key=key).value.double = 0.0
        for key in ("truth-sum", "truth-squared-sum"):
            record.items.add(key=key).value.double = 0.0
        return made.SerializeToString()

    found = plan(run={"rounds": 1}, evaluation={"before": True})
    alone, together = ledger(devices(3)), ledger([*devices(3), MemoryDevice("cam-9", lying)])
    for one in (alone, together):
        Driver(MemoryExchange(one), found, strategy_of(found, 77), initial()).drive()

    assert together.phases[0].metrics == alone.phases[0].metrics
    assert together.phases[0].reasons == {Code.METRICS: 1, Code.RECORDS: 0} or (
        together.phases[0].reasons == {Code.METRICS: 1}
    )


def test_a_quick_one_that_is_out_of_the_way_fills_no_quorum() -> None:
    bounded = plan(
        run={"rounds": 1},
        round={"quorum": 0.6, "minimum_cohort": 3},
        admission={"norm_ratio": 5.0},
    )
    found = ledger([*devices(4), MemoryDevice("cam-9", stepping(0.5), 10)])
    Driver(MemoryExchange(found), bounded, strategy_of(bounded, 77), initial()).drive()

    assert found.run.state is RunState.FINISHED
    (phase,) = found.phases
    assert (phase.admitted, phase.reasons) == (3, {Code.NORM_OF_COHORT: 1})


def test_updates_that_no_float32_holds_together_end_no_buffered_run() -> None:
    def enormous(message: message_pb2.Message, task: Task) -> bytes:
        largest = np.finfo(np.float32).max
        zeros = arrays_of(initial())
        after = {name: np.full_like(array, largest) for name, array in zeros.items()}
        return reply(message, as_floats(zeros, after).record, {**WEIGHT, "train_loss": 0.5})

    buffered = plan(
        run={"rounds": 2},
        round={"mode": "buffered", "buffer": 2, "minimum_cohort": 2, "concurrency": 4},
    )
    found = ledger([MemoryDevice(f"bad-{n}", enormous, 10 + 2 * n) for n in range(4)])
    BufferedDriver(MemoryExchange(found), buffered, initial()).drive()

    assert found.run.state is RunState.FINISHED
    assert any("where no float32 is" in one.why for one in found.phases)


def first_of_all() -> str:
    """The name of a device whose node id is before those of the honest ones."""
    first = min(node_id(one.name) for one in devices(3))
    return next(name for n in count() if node_id(name := f"bad-{n}") < first)


def telling(evaluation: Evaluation) -> Callable[..., bytes]:
    return lambda message, _: evaluate_reply(message, evaluation)


OTHERWISE = Evaluation(examples=40, loss_sum=9.0, judged=40)
MUCH_OF_ONE = Evaluation(
    examples=1,
    judged=10**12,
    correct=10**12,
    confusion=(10**12, *(8 * (0,))),
    confidences=(10**12, *(9 * (0,))),
    confident_correct=(10**12, *(9 * (0,))),
)


@pytest.mark.parametrize("told", [OTHERWISE, MUCH_OF_ONE])
def test_nobody_decides_by_its_counts_whose_counts_are_heard(told: Evaluation) -> None:
    found = plan(run={"rounds": 1}, evaluation={"before": True})
    alone = ledger(devices(3))
    together = ledger([*devices(3), MemoryDevice(first_of_all(), telling(told), 10)])
    for one in (alone, together):
        Driver(MemoryExchange(one), found, strategy_of(found, 77), initial()).drive()

    assert together.phases[0].metrics == alone.phases[0].metrics
    assert together.phases[0].reasons == {Code.METRICS: 1}


def evaluation_run(found: Ledger, **evaluation: object) -> list[PhaseRecord]:
    """The phases of a run of one round that is evaluated before and after."""
    wanted = plan(run={"rounds": 1}, evaluation={"before": True, "after": True, **evaluation})
    Driver(MemoryExchange(found), wanted, strategy_of(wanted, 77), initial()).drive()
    return found.phases


@pytest.mark.parametrize("mean", [1e30, -1e30])
@pytest.mark.parametrize("right", [True, False])
def test_one_finite_lie_decides_neither_loss_nor_accuracy(mean: float, *, right: bool) -> None:
    cells = [0] * 9
    cells[0 if right else 1] = 40
    lie = Evaluation(
        examples=40,
        loss_sum=40 * mean,
        judged=40,
        correct=40 * right,
        confusion=tuple(cells),
        confidences=(*(9 * (0,)), 40),
        confident_correct=(*(9 * (0,)), 40 * right),
    )
    alone = evaluation_run(ledger(devices(4)))
    together = evaluation_run(ledger([*devices(4), MemoryDevice("cam-9", liar(lie))]))

    for before, after in zip(alone, together, strict=True):
        if before.phase is Phase.EVALUATE:
            assert 0.5 * before.metrics["loss"] < after.metrics["loss"] < 2 * before.metrics["loss"]
            assert after.metrics["accuracy"] == pytest.approx(before.metrics["accuracy"], abs=0.1)


def liar(lie: Evaluation) -> Callable[..., bytes]:
    """Trains as others do, and lies of what came of it."""
    learner = Learner(9)

    def answer(message: message_pb2.Message, task: Task) -> bytes:
        if task.phase is Phase.EVALUATE:
            return evaluate_reply(message, lie)
        return learner(message, task)

    return answer


def test_what_fewer_devices_tell_than_are_believed_is_not_known() -> None:
    silent = [MemoryDevice(f"bad-{at}", declining) for at in range(2)]
    first, *_, last = evaluation_run(ledger([*devices(3), *silent]), minimum_cohort=4)

    assert first.metrics == last.metrics == {}
    assert last.why.endswith("; 3 held examples out, 4 are needed: nothing is known")
    assert evaluation_run(ledger([*devices(3), *silent]), minimum_cohort=3)[-1].metrics


def test_those_that_told_of_the_parent_are_asked_of_what_came_of_it() -> None:
    found = ledger(devices(8))
    evaluation_run(found, fraction=0.4)

    told = [{task.node for task in found.tasks.values() if task.step == step} for step in (1, 3)]
    assert told[0] == told[1]
    assert len(told[0]) == 4


def test_an_evaluation_counts_as_many_examples_as_is_allowed_and_no_more() -> None:
    many = 2**30
    owning = Evaluation(
        examples=many,
        loss_sum=float(many),
        judged=many,
        correct=many,
        confusion=(many, *(8 * (0,))),
        confidences=(many, *(9 * (0,))),
        confident_correct=(many, *(9 * (0,))),
    )
    found = plan(run={"rounds": 1}, evaluation={"before": True})
    together = ledger([*devices(3), MemoryDevice("cam-9", telling(owning))])
    Driver(MemoryExchange(together), found, strategy_of(found, 77), initial()).drive()

    told = evaluation_of(together.phases[0].metrics)
    assert told.examples == told.judged == 30 + 35 + 40 + 2 * 35
    assert sum(told.confusion) == sum(told.confidences) == told.judged


ODD_METRICS: dict[str, Callable[[message_pb2.MetricRecord], None]] = {
    "one more": lambda record: setattr(record.items.add(key="more").value, "double", 1.0),
    "a list": lambda record: record.items[1].value.double_list.vals.extend([0.5]),
}


@pytest.mark.parametrize("odd", ODD_METRICS.values(), ids=ODD_METRICS)
def test_odd_metrics_do_not_stop_a_strategy_that_sees_every_reply(
    odd: Callable[[message_pb2.MetricRecord], None],
) -> None:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        made = message_pb2.Message.FromString(
            reply(message, learnt(message), {**WEIGHT, "train_loss": 0.5})
        )
        odd(made.content.items[1].metric_record)
        return made.SerializeToString()

    median = plan(run={"rounds": 1}, strategy={"name": "FedMedian"})
    found = ledger([*devices(3), MemoryDevice("cam-9", answer, 10)])
    Driver(MemoryExchange(found), median, strategy_of(median, 77), initial()).drive()

    assert found.run.state is RunState.FINISHED
    assert found.phases[0].reasons == {Code.METRICS: 1}


def test_npy_of_ours_passes() -> None:
    """So that the attacks above are refused for what they are."""
    value = npy(np.full((6, 3), 0.01, np.float32))
    found = driven(ledger([*devices(4), MemoryDevice("cam-9", with_weight_array(value), 10)]))

    assert [one.admitted for one in found.phases] == [5, 5]

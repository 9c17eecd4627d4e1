"""The evidence of a stage, read from what its devices and the control group have told."""

from collections.abc import Iterable, Mapping

from controller.monitor.total import Sums
from controller.rollout.gate.evidence import Evidence, Sample
from controller.rollout.policy import Metric
from controller.store.store import Transaction


def read_evidence(
    tx: Transaction,
    model: str,
    version: int,
    stage: Mapping[str, float],
    control: Mapping[str, float],
) -> Evidence:
    """What ``stage`` showed with the version, and ``control`` with the model's other versions.

    Both are devices, each with the Unix time since when its windows count. Devices that have told
    nothing since are left out.
    """
    others = [one.version for one in tx.registry.versions(model) if one.version != version]
    return Evidence(
        stage=samples_of(tx, model, [version], stage),
        control=samples_of(tx, model, others, control),
    )


def samples_of(
    tx: Transaction, model: str, versions: Iterable[int], since: Mapping[str, float]
) -> tuple[Sample, ...]:
    """What devices have told of these versions together, each since its Unix time, by device."""
    ends = {device: int(1000 * at) for device, at in since.items()}
    found: dict[str, Sums] = {}
    for version in versions if ends else ():
        for device, sums in tx.totals.since(model, version, ends).items():
            found[device] = found.get(device, Sums()) + sums
    return tuple(_sample(device, found[device]) for device in sorted(found))


def _sample(device: str, sums: Sums) -> Sample:
    values: dict[Metric, float] = {}
    if sums.requests > 0:
        values[Metric.ERROR_RATE] = sums.failed / sums.requests
    if (p99 := sums.p99_seconds) is not None:
        values[Metric.LATENCY_P99] = p99
    if sums.judged > 0:
        values[Metric.DATA_QUALITY] = sums.faulty / sums.judged
        values[Metric.DRIFT] = sums.moved / sums.judged
    if sums.answers > 0:
        values[Metric.CONFIDENCE] = sums.confidence / sums.answers
    if sums.estimated > 0:
        values[Metric.ESTIMATED_ACCURACY] = sums.right / sums.estimated
    return Sample(device, sums.requests, values)

"""Which of Flower's strategies a run file names: the same here as on Flower's own SuperLink."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import flwr.serverapp.strategy as flower

from controller.federated.plan import Plan, StrategyName

_CLASSES: Final[Mapping[StrategyName, Callable[..., flower.Strategy]]] = {
    StrategyName.FED_AVG: flower.FedAvg,
    StrategyName.FED_PROX: flower.FedProx,
    StrategyName.FED_AVG_M: flower.FedAvgM,
    StrategyName.FED_ADAM: flower.FedAdam,
    StrategyName.FED_YOGI: flower.FedYogi,
    StrategyName.FED_ADAGRAD: flower.FedAdagrad,
    StrategyName.TRIMMED_MEAN: flower.FedTrimmedAvg,
    StrategyName.MEDIAN: flower.FedMedian,
    StrategyName.KRUM: flower.Krum,
    StrategyName.MULTI_KRUM: flower.MultiKrum,
    StrategyName.BULYAN: flower.Bulyan,
}


def flower_strategy(plan: Plan, **options: Any) -> flower.Strategy:
    """The strategy of the run file, with its parameters; ``options`` are what else Flower takes."""
    name = plan.strategy.name
    given: dict[str, Any] = dict(plan.strategy.parameters())
    if name is StrategyName.FED_PROX:
        given["proximal_mu"] = plan.training.proximal
    return _CLASSES[name](**options, **given)

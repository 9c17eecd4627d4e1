"""What Prometheus reads of a device's part in training."""

from collections.abc import Sequence

from agent.federated.examples import Held
from agent.federated.tally import OUTCOMES, Spent, Tally
from agent.serving.exposition import COUNTER, GAUGE, Family


def of_examples(models: Sequence[tuple[str, Held]]) -> list[Family]:
    """How many are kept, of each model."""
    return [
        Family(
            "muster_agent_examples",
            GAUGE,
            "Examples that are kept, to learn from and held out.",
            ("model", "part"),
            [
                ((model, part), count)
                for model, held in models
                for part, count in (("training", held.training), ("held-out", held.held_out))
            ],
        )
    ]


def of_tasks(tally: Tally, spent: Spent) -> list[Family]:
    """What came of tasks, and what they took."""
    return [
        Family(
            "muster_agent_tasks_total",
            COUNTER,
            "Tasks of federated runs: trained, evaluated or declined here; refused by the controller.",
            ("outcome",),
            [((outcome,), tally.tasks[outcome]) for outcome in OUTCOMES],
        ),
        Family(
            "muster_agent_declined_total",
            COUNTER,
            "Tasks that were declined, by reason.",
            ("reason",),
            [((code,), count) for code, count in sorted(tally.declined.copy().items())],
        ),
        Family(
            "muster_agent_training_seconds_total",
            COUNTER,
            "Seconds that training and evaluation ran, and that they waited for requests.",
            ("state",),
            [(("running",), spent.ran), (("waiting",), spent.waited)],
        ),
        Family(
            "muster_agent_training_yields_total",
            COUNTER,
            "How often training or evaluation was stopped for a request.",
            samples=[((), spent.yields)],
        ),
    ]

"""What a run begins with: the parameters of the version that devices run."""

from controller.candidate.model import parameters_of
from controller.federated.coordinator.request import written_arrays
from controller.registry.training_text import spec_of


def parents_parameters(model: bytes, train_step: bytes) -> bytes:
    """The array record of what the train step trains, as it is in the model file.

    Raises:
        NoCandidate: the model does not have them as raw data.
    """
    shapes = {one.name: one.shape for one in spec_of(train_step).parameters}
    return written_arrays(parameters_of(model, shapes))

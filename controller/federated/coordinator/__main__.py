"""``python -m controller.federated.coordinator --home FOLDER --run ID``."""

import sys

from controller.federated.coordinator.loop import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

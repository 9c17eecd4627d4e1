"""A Mosquitto of the stage's own, set up as `muster mqtt setup` says."""

import getpass
import os
import shutil
import socket
from pathlib import Path

from simulations.demo.processes import Daemon, ProcessFailed, wait_for


class StageBroker:
    """The broker's folder and its process."""

    def __init__(self, folder: Path, ports: tuple[int, int, int]) -> None:
        self.folder = folder
        self.devices, self.controllers, self.strangers = ports
        command = [mosquitto(), "-c", str(folder / "mosquitto.conf")]
        self.daemon = Daemon("mosquitto", command, folder.with_suffix(".log"), {})

    def setup_words(self, home: Path) -> tuple[str, ...]:
        """The words of `muster` that write the folder, out of that controller's."""
        ports = (self.devices, self.controllers, self.strangers)
        names = ("--devices-port", "--controllers-port", "--strangers-port")
        return (
            *("mqtt", "setup", str(self.folder), "--home", str(home), "--data", str(self.folder)),
            *("--host", "localhost", "--host", "127.0.0.1"),
            *(word for name, port in zip(names, ports, strict=True) for word in (name, str(port))),
        )

    def join(self, controller_config: Path) -> None:
        """Tells the controller where its broker is."""
        ports = {
            "broker": self.controllers,
            "address": self.devices,
            "enrolment_address": self.strangers,
        }
        text = controller_config.read_text()
        for key, port in ports.items():
            text = text.replace(f'\n{key} = ""', f'\n{key} = "localhost:{port}"')
        controller_config.write_text(text)

    def start(self) -> None:
        """Starts it; returns when it answers."""
        if os.geteuid() == 0:  # it would become another user, who can't read the folder
            with (self.folder / "mosquitto.conf").open("a") as file:
                file.write(f"\nuser {getpass.getuser()}\n")
        self.daemon.start()
        wait_for("answer of the broker", self._answers, 30, [self.daemon])

    def _answers(self) -> bool | None:
        try:
            socket.create_connection(("127.0.0.1", self.controllers), timeout=5).close()
        except OSError:
            return None
        return True


def mosquitto() -> str:
    """The program's path.

    Raises:
        ProcessFailed: there is none.
    """
    # Debian keeps it where only root looks.
    path = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise ProcessFailed("there is no Mosquitto here: `apt-get install mosquitto`")
    return path

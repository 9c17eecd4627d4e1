import socket
from contextlib import closing

from simulations.bench import transports
from simulations.bench.transport_run import FIRST, Pace
from simulations.bench.wire import Carried, carried_with


def test_a_small_fleet_is_measured_over_both_transports() -> None:
    devices = FIRST + 20

    rows = {row.name: row for row in transports.measured(devices, Pace(every=1.0, rest=0.1))}

    connected = rows["transports: 20 devices connect over MQTT"]
    assert "dialled in vain: 0, 0" in connected.note
    memory = rows["transports: controller's memory, each device"]
    assert memory.target == transports.TARGET_KIB
    assert all("gRPC (" in row.ratio for row in rows.values())
    for what in (
        "a directive reaches a device, p50",
        "a directive reaches a device, p99",
        "windows a second, one a minute each",
        "a window is stored, p99",
        "a window's bytes up",
        "a window's bytes down",
        "windows a second at most",
        "servers' CPU, a window",
    ):
        assert rows[f"transports: {what}"].value > 0


def test_bytes_are_counted_on_the_connections_to_one_port() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        port = listening.getsockname()[1]
        near = socket.create_connection(("127.0.0.1", port))
        elsewhere = socket.create_connection(other.getsockname())
        far, _ = listening.accept()
        with closing(near), closing(far), closing(elsewhere):
            near.sendall(b"x" * 1000)
            far.recv(1000, socket.MSG_WAITALL)
            far.sendall(b"y" * 300)
            near.recv(300, socket.MSG_WAITALL)
            elsewhere.sendall(b"z" * 50)

            # The first byte is the handshake's.
            assert carried_with(port) == Carried(sent=1001, received=300)

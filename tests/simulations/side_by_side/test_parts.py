"""What both ways are measured with, and how it is shown."""

import os
import socket

from controller.federated.run_file import read_plan
from simulations.demo import digits
from simulations.side_by_side.figures import Figures, table
from simulations.side_by_side.gauge import Peaks, counted, resident
from simulations.side_by_side.proxy import CountingProxy
from simulations.side_by_side.task import DEVICES, examples, run_file


def test_what_goes_through_a_proxy_is_counted_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = CountingProxy(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", proxy.port)) as near:
            far, _ = server.accept()
            with far:
                near.sendall(b"a" * 1000)
                assert far.recv(1000, socket.MSG_WAITALL) == b"a" * 1000
                far.sendall(b"b" * 300)
                assert near.recv(300, socket.MSG_WAITALL) == b"b" * 300
                near.shutdown(socket.SHUT_WR)
                assert far.recv(1) == b""
            assert near.recv(1) == b""
        proxy.close()

    assert (proxy.up, proxy.down) == (1000, 300)


def test_the_bytes_of_all_connections_are_added_up() -> None:
    told = """0 0 127.0.0.1:8444 127.0.0.1:5001 cubic bytes_sent:300 bytes_acked:301 bytes_received:1000 x
0 0 127.0.0.1:8444 127.0.0.1:5002 cubic bytes_sent:5 bytes_acked:6 bytes_received:7
0 0 127.0.0.1:8444 127.0.0.1:5003 cubic wscale:7,7
"""

    assert counted(told) == (1007, 305)


def test_memory_is_that_of_the_tree_and_of_nobody_who_has_ended() -> None:
    peaks = Peaks([os.getpid(), 2**22 + 1])

    peaks.look()

    assert resident(2**22 + 1) == 0
    assert peaks.most[os.getpid()] > 20
    assert peaks.mean == peaks.most[os.getpid()] / 2


def test_both_ways_stand_beside_each_other() -> None:
    rows = [Figures(way, 12.34, 1.234, 120.4, 186.1, 290.0, 49_400, 168_000) for way in ("a", "b")]

    shown = table(rows).splitlines()

    assert shown[0] == "| | a | b |"
    assert shown[3] == "| seconds a round | 1.23 | 1.23 |"
    assert shown[-2] == "| kB up, all devices and rounds | 49 | 49 |"


def test_devices_share_no_row_and_the_run_file_can_be_read() -> None:
    data = digits.load()
    parts = [examples(data, device) for device in range(DEVICES)]

    assert sum(len(one["y"]) for one in parts) == len(data.train_labels)
    assert read_plan(run_file(3, "float32"), "run.toml").run.rounds == 3

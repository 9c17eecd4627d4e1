"""What both ways are measured with, and how it is shown."""

import os
import socket

from controller.federated.run_file import read_plan
from simulations.demo import digits
from simulations.side_by_side.figures import Figures, table
from simulations.side_by_side.gauge import Memory, Peaks, counted, mean, memory, told
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

    here = peaks.most[os.getpid()]
    assert memory(2**22 + 1) == Memory()
    assert 10 < here.own < here.resident
    assert here.own < here.proportional <= here.resident
    assert peaks.mean == here / 2


def test_of_each_kind_of_memory_the_most_is_kept() -> None:
    text = "7ff000-7ff100 ---p 0 00:00 0 [rollup]\nRss: 2048 kB\nPss: 1536 kB\nPss_Anon: 9 kB\nAnonymous: 1024 kB\n"
    found = told(text)

    assert found == Memory(2.0, 1.5, 1.0)
    assert found.at_least(Memory(3.0, 1.0, 0.5)) == Memory(3.0, 1.5, 1.0)
    assert mean([found, Memory(4.0, 2.5, 2.0)]) == Memory(3.0, 2.0, 1.5)


def test_both_ways_stand_beside_each_other() -> None:
    idle, at_work, centre = Memory(120.4, 70, 50), Memory(186.1, 90, 80), Memory(290.0, 240, 200)
    rows = [
        Figures(way, 12.34, 1.234, idle, at_work, centre, 49_400, 168_000) for way in ("a", "b")
    ]

    shown = table(rows).splitlines()

    assert shown[0] == "| | a | b |"
    assert shown[3] == "| seconds a round | 1.23 | 1.23 |"
    assert shown[4].endswith("| 120 / 70 / 50 | 120 / 70 / 50 |")
    assert shown[-2] == "| kB up, all devices and rounds | 49 | 49 |"


def test_devices_share_no_row_and_the_run_file_can_be_read() -> None:
    data = digits.load()
    parts = [examples(data, device) for device in range(DEVICES)]

    assert sum(len(one["y"]) for one in parts) == len(data.train_labels)
    assert read_plan(run_file(3, "float32"), "run.toml").run.rounds == 3

"""Where `tunemill up` and `tunemill api` listen."""

import socket

from tunemill.cli.up import HOST, listen


def test_an_answer_is_sent_at_once_though_its_head_is_not_acknowledged() -> None:
    with listen(HOST, 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

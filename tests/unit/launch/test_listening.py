"""Listening sockets that lie on the shelf are there for whoever looks next."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from services.engine.launch.listening import Listening
from services.protocol.listening import ENVIRONMENT, Shelf


def _listener(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def test_clients_wait_in_a_socket_that_no_process_has_open(tmp_path: Path) -> None:
    shelf, path = Shelf(), tmp_path / "s"
    assert shelf.look() == []
    with _listener(path) as first:
        shelf.put([first])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        for _ in range(2):  # a look takes nothing out
            (found,) = shelf.look()
            found.close()
        (found,) = shelf.look()
        with found:
            found.accept()[0].close()
        assert client.recv(1) == b""
    shelf.close()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(path))


def test_several_sockets_keep_their_order(tmp_path: Path) -> None:
    shelf = Shelf()
    made = [_listener(tmp_path / str(number)) for number in range(20)]
    shelf.put(made)
    found = shelf.look()
    assert [one.getsockname() for one in found] == [one.getsockname() for one in made]
    assert not any(one.get_inheritable() for one in found)
    for one in (*made, *found):
        one.close()
    shelf.close()


def test_what_is_inherited_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert Shelf.inherited() is None
    shelf = Shelf()
    copies = [os.dup(fd) for fd in shelf.fds]
    monkeypatch.setenv(ENVIRONMENT, ",".join(map(str, copies)))
    inherited = Shelf.inherited()
    assert inherited is not None and ENVIRONMENT not in os.environ
    with _listener(tmp_path / "s") as made:
        inherited.put([made])
    inherited.close()
    assert len(shelf.look()) == 1
    shelf.close()


def test_the_end_takes_the_paths_along(tmp_path: Path) -> None:
    listening = Listening([f"unix://{tmp_path}/s", f"unix://{tmp_path}/file", f"unix://{tmp_path}/none"])
    _listener(tmp_path / "s").close()
    (tmp_path / "file").touch()
    listening.close()
    listening.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]

"""download against a server on loopback: what it fetches, refuses, keeps, and says when it fails."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cnn.data.cifar import load_cifar_folder
from cnn.data.download import SOURCES, Source, download
from cnn.data.load import load
from cnn.data.mnist_folder import load_mnist_folder


class Server:
    """files: path -> content. requests: the paths that were asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut = 0  # bytes to leave out at the end of every answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - outer.cut])

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("CNN_DATA_URL", raising=False)
    monkeypatch.delenv("CNN_DATA_DIR", raising=False)
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.http.shutdown()
    thread.join()
    running.http.server_close()


def offer(server: Server, monkeypatch, name: str, files: dict[str, bytes], folder: str = "", inner=None) -> None:
    """Puts the files on the server and their hashes in the table, in the place of the real ones."""
    server.files.update({f"{folder}/{file}": content for file, content in files.items()})
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    monkeypatch.setitem(SOURCES, name, Source("http://127.0.0.1:9/nobody/listens/here", hashes, inner))


def packed(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def cifar_members(folder: str = "cifar-10-batches-bin") -> dict[str, bytes]:
    files = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    return {f"{folder}/{name}": bytes([number]) + bytes(3072) for number, name in enumerate(files)}


@pytest.fixture
def idx_files(tmp_path, mnist_folder) -> dict[str, bytes]:
    return {
        path.name.removesuffix(".gz") + ".gz": path.read_bytes() if path.suffix else gzip.compress(path.read_bytes())
        for path in mnist_folder(tmp_path / "made").iterdir()
    }


def test_the_table_is_complete():
    assert list(SOURCES) == ["mnist", "fashion-mnist", "cifar10"]
    for source in SOURCES.values():
        assert source.base_url.startswith("http")
        for sha256 in source.files.values():
            assert len(bytes.fromhex(sha256)) == 32


def test_four_files(server, monkeypatch, tmp_path, idx_files, capfd):
    offer(server, monkeypatch, "mnist", idx_files)
    folder = download("mnist", tmp_path / "cache", base_url=server.url)
    assert folder == tmp_path / "cache" / "mnist"
    assert sorted(path.name for path in folder.iterdir()) == sorted(idx_files)
    assert all((folder / name).read_bytes() == content for name, content in idx_files.items())
    assert len(load_mnist_folder(folder, "train")) == 20
    assert sorted(server.requests) == sorted(f"/{name}" for name in idx_files)
    # Whoever wants to see it listens to the logger "cnn.data".
    assert capfd.readouterr() == ("", "")


def test_the_second_time_needs_no_network(server, monkeypatch, tmp_path, idx_files):
    offer(server, monkeypatch, "mnist", idx_files)
    folder = download("mnist", tmp_path / "cache", base_url=server.url + "/")
    server.requests.clear()
    assert download("mnist", str(tmp_path / "cache"), base_url=server.url) == folder
    assert server.requests == []
    assert download("mnist", tmp_path / "cache") == folder


def test_a_damaged_file_is_fetched_again(server, monkeypatch, tmp_path, idx_files):
    offer(server, monkeypatch, "mnist", idx_files)
    folder = download("mnist", tmp_path / "cache", base_url=server.url)
    server.requests.clear()
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    download("mnist", tmp_path / "cache", base_url=server.url)
    assert server.requests == ["/t10k-labels-idx1-ubyte.gz"]
    assert len(load_mnist_folder(folder, "test")) == 10


def test_wrong_hash(server, monkeypatch, tmp_path, idx_files):
    offer(server, monkeypatch, "mnist", idx_files)
    server.files["/train-images-idx3-ubyte.gz"] = b"<html>Please log in to this network</html>"
    with pytest.raises(ValueError, match=r"mnist: train-images-idx3-ubyte\.gz from .* is not the file") as caught:
        download("mnist", tmp_path / "cache", base_url=server.url)
    assert f"into {tmp_path / 'cache' / 'mnist'}" in str(caught.value)
    assert SOURCES["mnist"].files["train-images-idx3-ubyte.gz"] in str(caught.value)
    # Neither the wrong file nor a temporary one stays.
    assert not [path for path in (tmp_path / "cache" / "mnist").iterdir() if path.name not in idx_files]
    assert not (tmp_path / "cache" / "mnist" / "train-images-idx3-ubyte.gz").exists()


def test_not_found(server, monkeypatch, tmp_path, idx_files):
    offer(server, monkeypatch, "mnist", idx_files)
    server.files.clear()
    with pytest.raises(OSError, match=r"mnist: .*-ubyte\.gz could not be downloaded from .*404.* by hand") as caught:
        download("mnist", tmp_path / "cache", base_url=server.url)
    assert str(tmp_path / "cache" / "mnist") in str(caught.value)


def test_connection_that_breaks_off(server, monkeypatch, tmp_path, idx_files):
    offer(server, monkeypatch, "mnist", idx_files)
    server.cut = 5
    with pytest.raises(OSError, match="could not be downloaded"):
        download("mnist", tmp_path / "cache", base_url=server.url)
    server.cut = 0
    assert len(load_mnist_folder(download("mnist", tmp_path / "cache", base_url=server.url), "train")) == 20


def test_no_network(server, monkeypatch, tmp_path, idx_files):
    offer(server, monkeypatch, "mnist", idx_files)
    # Port 9 of the table's address: nobody listens there.
    with pytest.raises(OSError, match="To do it by hand, put"):
        download("mnist", tmp_path / "cache")


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="no data set 'imagenet' to download; there are mnist, fashion-mnist, cifar10"):
        download("imagenet", tmp_path)


def test_the_archive_is_unpacked_once(server, monkeypatch, tmp_path):
    members = cifar_members()
    offer(server, monkeypatch, "cifar10", {"c.tar.gz": packed(members)}, inner="cifar-10-batches-bin")
    folder = download("cifar10", tmp_path, base_url=server.url)
    assert folder == tmp_path / "cifar10" / "cifar-10-batches-bin"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name.split("/")[1]: content for name, content in members.items()
    }
    assert load_cifar_folder(folder, "train").labels.tolist() == [0, 1, 2, 3, 4]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["c.tar.gz", "cifar-10-batches-bin"]
    server.requests.clear()
    assert download("cifar10", tmp_path, base_url=server.url) == folder
    assert server.requests == []


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("evil", "message"),
    [
        ({"../evil.bin": b"evil"}, "'../evil.bin' would be written outside"),
        ({"cifar-10-batches-bin/../../evil.bin": b"evil"}, "would be written outside"),
        ({"/tmp/evil-of-numba-cnn.bin": b"evil"}, "would be written outside"),
        ({"cifar-10-batches-bin/l": link("cifar-10-batches-bin/l", "/etc")}, "neither a file nor a folder"),
        (
            {"l": link("l", "cifar-10-batches-bin/test_batch.bin", tarfile.LNKTYPE)},
            "neither a file nor a folder",
        ),
        ({"f": link("f", "", tarfile.FIFOTYPE)}, "neither a file nor a folder"),
    ],
)
def test_archives_that_reach_outside_are_refused(server, monkeypatch, tmp_path, evil, message):
    content = packed({**cifar_members(), **evil})
    offer(server, monkeypatch, "cifar10", {"c.tar.gz": content}, inner="cifar-10-batches-bin")
    with pytest.raises(ValueError, match=message) as caught:
        download("cifar10", tmp_path, base_url=server.url)
    assert "c.tar.gz" in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["cifar10", "c.tar.gz"]


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        gzip.compress(b"no tar archive", mtime=0),
        packed(cifar_members())[:-50],
        packed(cifar_members("other")),
    ],
)
def test_unsuitable_archives(server, monkeypatch, tmp_path, content):
    offer(server, monkeypatch, "cifar10", {"c.tar.gz": content}, inner="cifar-10-batches-bin")
    with pytest.raises(ValueError, match=r"c\.tar\.gz: (not the archive|there is no folder)"):
        download("cifar10", tmp_path, base_url=server.url)
    assert [path.name for path in tmp_path.rglob("*")] == ["cifar10", "c.tar.gz"]


def test_environment(server, monkeypatch, tmp_path, idx_files, caplog):
    """A mirror has a folder for each data set, and load() finds it."""
    offer(server, monkeypatch, "fashion-mnist", idx_files, folder="/mirror/fashion-mnist")
    files = {"c.tar.gz": packed(cifar_members())}
    offer(server, monkeypatch, "cifar10", files, folder="/mirror/cifar10", inner="cifar-10-batches-bin")
    monkeypatch.setenv("CNN_DATA_URL", server.url + "/mirror")
    monkeypatch.setenv("CNN_DATA_DIR", str(tmp_path / "kept"))
    with caplog.at_level(logging.INFO):
        fashion = load("fashion-mnist", "test")
    assert fashion.classes[9] == "Ankle boot"
    assert len(fashion) == 10
    assert load("cifar10", "test").labels.tolist() == [5]
    np.testing.assert_array_equal(load("cifar10", "train").images, 0)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["cifar10", "fashion-mnist"]
    assert {record.name for record in caplog.records if "ubyte" in record.getMessage()} == {"cnn.data"}

"""Data sets by name: fetched once, compared with a published SHA-256, kept in a cache folder.

Fetching and hashing is pooch's: into a temporary file, which gets its name only when the hash is right.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "CNN_DATA_DIR"
URL_VARIABLE = "CNN_DATA_URL"

TIMEOUT_S = 30
CHUNK = 1 << 16

logger = logging.getLogger("cnn.data")


@dataclass(frozen=True)
class Source:
    """Where the files of a data set are.

    files: name -> SHA-256. inner: the folder to take out of them, where they are one .tar.gz file.
    """

    base_url: str
    files: dict[str, str]
    inner: str | None = None


# The hashes are those of TensorFlow Datasets
# (tensorflow_datasets/url_checksums/{mnist,fashion_mnist,cifar10}.txt in tensorflow/datasets), which
# publishes SHA-256 and lengths for these very addresses; red-datasets (lib/datasets/cifar.rb) has the same
# for CIFAR-10. The authors themselves only publish MD5: Zalando's README, and Toronto's page.
SOURCES: dict[str, Source] = {
    "mnist": Source(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion-mnist": Source(
        # This S3 address has no https; the hashes make up for it.
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
    "cifar10": Source(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        inner="cifar-10-batches-bin",
    ),
}


def download(name: str, cache_dir: str | Path | None = None, *, base_url: str | None = None) -> Path:
    """The folder with the files of a data set, which are downloaded if they are not there yet.

    name: `mnist` and `fashion-mnist` (IDX files) or `cifar10` (.bin files).
    cache_dir: files go to cache_dir/NAME; else to $CNN_DATA_DIR/NAME, else to the system's cache folder.
    base_url: the address of the folder that has the files; else $CNN_DATA_URL/NAME, else the well-known one.

    What is there already, with the right hash, is not fetched again, and no network is needed.

    Raises ValueError for an unknown name, a file with another hash and a broken archive, OSError where the
    network or the disk fails; both say which file it is and where to put it by hand.
    """
    if name not in SOURCES:
        raise ValueError(f"no data set {name!r} to download; there are {', '.join(SOURCES)}")
    source = SOURCES[name]
    folder = _cache_root(cache_dir) / name
    base = base_url or _mirror(name) or source.base_url
    unpacked = None if source.inner is None else folder / source.inner
    # It got its name when it was complete, so it can be taken as it is.
    if unpacked is not None and unpacked.is_dir():
        return unpacked
    for file, sha256 in source.files.items():
        _fetch(name, f"{base.rstrip('/')}/{file}", folder / file, sha256)
        if unpacked is not None:
            _unpack(folder / file, unpacked)
    return unpacked or folder


def _cache_root(cache_dir: str | Path | None) -> Path:
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("numba-cnn"))


def _mirror(name: str) -> str | None:
    root = os.environ.get(URL_VARIABLE)
    return f"{root.rstrip('/')}/{name}" if root else None


def _fetch(name: str, url: str, target: Path, sha256: str) -> None:
    import pooch  # late, like requests behind it: only a download needs them

    if not target.exists():
        logger.info("downloading %s to %s", url, target)
    by_hand = (
        f"To do it by hand, put {target.name} from {url} (SHA-256 {sha256}) into {target.parent}, "
        f"or load the files by their path."
    )
    pooch_logger = pooch.get_logger()
    level = pooch_logger.level
    pooch_logger.setLevel(logging.WARNING)
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            fname=target.name,
            path=target.parent,
            downloader=_stream,
        )
    # requests' exceptions are OSErrors, so this is before ValueError: its bad addresses are both.
    except OSError as error:
        raise OSError(f"{name}: {target.name} could not be downloaded from {url}: {error}. {by_hand}") from error
    except ValueError as error:
        raise ValueError(
            f"{name}: {target.name} from {url} is not the file that was expected: {error} {by_hand}"
        ) from error
    finally:
        pooch_logger.setLevel(level)


def _stream(url: str, target: str, _pooch: object) -> None:
    """A downloader for pooch, whose own leaves the connection open when it breaks off."""
    import requests

    # Without this header some servers unpack .gz files on the way, and the hash would be another one.
    headers = {"Accept-Encoding": "identity"}
    with (
        requests.get(url, stream=True, timeout=TIMEOUT_S, headers=headers) as response,
        open(target, "wb") as file,
    ):
        response.raise_for_status()
        for piece in response.iter_content(CHUNK):
            file.write(piece)


def _unpack(archive: Path, folder: Path) -> None:
    """Takes the folder of that name out of a .tar.gz, completely or not at all.

    Members are written as plain files, under their own names inside a scratch folder, so that nothing depends
    on the `filter` of tarfile.extractall, which Python 3.10 and 3.11 only have in their later releases.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        root = Path(scratch).resolve()
        try:
            with tarfile.open(archive, "r:gz") as tar:
                for member in tar:
                    _extract(tar, member, root)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
            raise ValueError(f"{archive}: not the archive that was expected: {error}") from error
        if not (root / folder.name).is_dir():
            raise ValueError(f"{archive}: there is no folder {folder.name} in this archive")
        try:
            os.rename(root / folder.name, folder)
        except OSError:
            # Another process may have been faster.
            if not folder.is_dir():
                raise


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    target = (root / member.name).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"the member {member.name!r} would be written outside of the folder")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise ValueError(f"the member {member.name!r} is neither a file nor a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, open(target, "wb") as file:
        shutil.copyfileobj(content, file)

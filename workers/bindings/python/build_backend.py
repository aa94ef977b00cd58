"""Makes the wheel: a build backend (PEP 517, PEP 660) of the standard library
alone, because a package of plain modules needs no more, and pip would fetch any
other from the network."""

import base64
import hashlib
import os
import tarfile
import zipfile

NAME, VERSION = "mqredis", "1.0.0"
HERE = os.path.dirname(os.path.abspath(__file__))
INFO = "%s-%s.dist-info" % (NAME, VERSION)
SUMMARY = "Redis commands through the connection that all processes of a host share"
METADATA = """\
Metadata-Version: 2.1
Name: {name}
Version: {version}
Summary: {summary}
License: MIT
Requires-Python: >=3.9
Description-Content-Type: text/markdown

{readme}"""
WHEEL = """\
Wheel-Version: 1.0
Generator: mqredis
Root-Is-Purelib: true
Tag: py3-none-any
"""


def _read(*path):
    with open(os.path.join(HERE, *path), "rb") as file:
        return file.read()


def _package_files():
    names = sorted(os.listdir(os.path.join(HERE, NAME)))
    wanted = [n for n in names if n.endswith(".py") or n == "py.typed"]
    return {"%s/%s" % (NAME, n): _read(NAME, n) for n in wanted}


def _write_wheel(folder, files):
    readme = _read("README.md").decode()
    metadata = METADATA.format(
        name=NAME, version=VERSION, summary=SUMMARY, readme=readme
    )
    files = dict(files)
    files[INFO + "/METADATA"] = metadata.encode()
    files[INFO + "/WHEEL"] = WHEEL.encode()
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
        record += "%s,sha256=%s,%d\n" % (
            name,
            digest.rstrip(b"=").decode(),
            len(data),
        )
    record += INFO + "/RECORD,,\n"
    files[INFO + "/RECORD"] = record.encode()
    wheel = "%s-%s-py3-none-any.whl" % (NAME, VERSION)
    with zipfile.ZipFile(
        os.path.join(folder, wheel), "w", zipfile.ZIP_DEFLATED
    ) as archive:
        for name, data in files.items():
            # A fixed date: the same sources give the same wheel.
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return wheel


# ---- the hooks that pip calls ----


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _write_wheel(wheel_directory, _package_files())


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _write_wheel(wheel_directory, {NAME + ".pth": (HERE + "\n").encode()})


def build_sdist(sdist_directory, config_settings=None):
    base = "%s-%s" % (NAME, VERSION)
    path = os.path.join(sdist_directory, base + ".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for name in ("pyproject.toml", "build_backend.py", "README.md"):
            archive.add(os.path.join(HERE, name), base + "/" + name)
        for name in _package_files():
            archive.add(os.path.join(HERE, name), base + "/" + name)
    return base + ".tar.gz"

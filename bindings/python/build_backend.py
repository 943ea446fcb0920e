"""Builds the wheel of the package, with the native library inside: a PEP 517 backend of our own.

A wheel is a zip file with a list of its files, and what is to be done besides is to run cargo. That is
less than what a build tool would have to be told, and it needs no network. The library is built from
the repository that this directory is part of (`pip install ./bindings/python` builds in place), in
release mode. If the environment variable DURALOG_LIBRARY names a library, that one is taken instead.

The wheel is tagged py3-none-<platform>: any Python 3, no Python ABI, the platform of this machine.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
SOURCES = os.path.join(HERE, "src")
PACKAGE = os.path.join(SOURCES, "duralog")
LIBRARY_NAMES = ("libduralog.so", "libduralog.dylib", "duralog.dll")


class BuildError(Exception):
    pass


# --- The hooks that pip calls -----------------------------------------------------------------


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info, files = metadata()
    os.mkdir(os.path.join(metadata_directory, info))
    for name, data in files.items():
        with open(os.path.join(metadata_directory, info, name), "wb") as file:
            file.write(data)
    return info


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    library = native_library()
    files = {f"duralog/{name}": read(os.path.join(PACKAGE, name)) for name in sorted(os.listdir(PACKAGE))
             if name.endswith((".py", ".pyi", ".typed"))}
    files[f"duralog/{library_name()}"] = read(library)
    return write_wheel(wheel_directory, files)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """A wheel that points here. The library goes beside the sources, where git ignores it."""
    shutil.copyfile(native_library(), os.path.join(PACKAGE, library_name()))
    return write_wheel(wheel_directory, {"duralog_editable.pth": f"{SOURCES}\n".encode()})


def build_sdist(sdist_directory, config_settings=None):
    raise BuildError("there is no source distribution of the Python package alone: it is built from the repository, "
                     "which has the sources of the native library. Build a wheel: pip wheel ./bindings/python")


def get_requires_for_build_wheel(config_settings=None):
    return []


get_requires_for_build_editable = get_requires_for_build_wheel
get_requires_for_build_sdist = get_requires_for_build_wheel


# --- The library ------------------------------------------------------------------------------


def library_name():
    return {"darwin": "libduralog.dylib", "win32": "duralog.dll"}.get(sys.platform, "libduralog.so")


def native_library():
    """The file to bundle: the one named by DURALOG_LIBRARY, else built now."""
    named = os.environ.get("DURALOG_LIBRARY")
    if not named:
        return cargo_build()
    if not os.path.isfile(named):
        raise BuildError(f"DURALOG_LIBRARY names {named}, which is no file")
    return named


def cargo_build():
    manifest = os.path.join(REPOSITORY, "Cargo.toml")
    if not os.path.isfile(manifest):
        raise BuildError(f"{manifest} is not there: the native library is built from the repository of Duralog. Install "
                         "from within it (pip install ./bindings/python), or set DURALOG_LIBRARY to a built library.")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise BuildError("cargo is not installed (https://rustup.rs), and DURALOG_LIBRARY does not name a built library")
    command = [cargo, "build", "--release", "--lib", "--manifest-path", manifest,
               "--message-format", "json-render-diagnostics"]
    # cargo says where it puts the library; the target directory has many masters.
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed with status {done.returncode}; see above")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "duralog":
            for file in message["filenames"]:
                if os.path.basename(file) in LIBRARY_NAMES:
                    return file
    raise BuildError(f"{' '.join(command)} made no {library_name()}")


# --- The wheel --------------------------------------------------------------------------------


def write_wheel(directory, files):
    """Writes a wheel with these files (name: bytes); returns its name."""
    info, about = metadata()
    files = {**files, **{f"{info}/{name}": data for name, data in about.items()}}
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        if os.path.isfile(os.path.join(REPOSITORY, name)):
            files[f"{info}/licenses/{name}"] = read(os.path.join(REPOSITORY, name))
    record = f"{info}/RECORD"
    lines = [f"{name},sha256={digest(data)},{len(data)}\n" for name, data in files.items()]
    files[record] = "".join([*lines, f"{record},,\n"]).encode()
    wheel = f"duralog-{crate_version()}-{wheel_tag()}.whl"
    with zipfile.ZipFile(os.path.join(directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            # A fixed time, so that the same sources give the same wheel.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if name.endswith(LIBRARY_NAMES) else 0o100644) << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return wheel


def metadata():
    """The directory of the wheel that describes it, and its files but RECORD."""
    project, version = project_table(), crate_version()
    description = (
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\nSummary: {project['description']}\n"
        f"License: {project['license']}\nRequires-Python: {project['requires-python']}\n"
        f"Description-Content-Type: text/markdown\n\n").encode() + read(os.path.join(HERE, project["readme"]))
    wheel = f"Wheel-Version: 1.0\nGenerator: duralog build_backend\nRoot-Is-Purelib: false\nTag: {wheel_tag()}\n"
    return f"duralog-{version}.dist-info", {"METADATA": description, "WHEEL": wheel.encode()}


def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def wheel_tag():
    return f"py3-none-{re.sub(r'[^A-Za-z0-9_]', '_', sysconfig.get_platform())}"


def project_table():
    """The texts of [project] in pyproject.toml."""
    text = read(os.path.join(HERE, "pyproject.toml")).decode()
    table = text.split("\n[project]\n", 1)[1].split("\n[", 1)[0]
    return dict(re.findall(r'^([a-z-]+) = "([^"]*)"$', table, re.MULTILINE))


def crate_version():
    """The version of the library, which is that of the package."""
    manifest = os.path.join(REPOSITORY, "Cargo.toml")
    if not os.path.isfile(manifest):
        raise BuildError(f"{manifest} is not there: the version of the package is in it; install from the repository")
    found = re.search(r'^version = "([^"]+)"$', read(manifest).decode(), re.MULTILINE)
    if found is None:
        raise BuildError(f"{manifest} has no version")
    return found.group(1)


def read(path):
    with open(path, "rb") as file:
        return file.read()

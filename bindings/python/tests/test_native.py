"""`_native.py` against `include/duralog.h`: every constant, struct, field, function and argument of the
one is in the other, in the same order. Sizes and offsets are asked from the C compiler, if there is one.

Then the search for the library: what is tried, in which order, and what is said when nothing is found.
"""

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from duralog import _errors, _native
from support import REPOSITORY, python

HEADER = os.path.join(REPOSITORY, "include", "duralog.h")

SCALARS = {
    "uint8_t": ctypes.c_uint8, "uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64, "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64, "int": ctypes.c_int, "size_t": ctypes.c_size_t, "char": ctypes.c_char,
    "duralog_status_t": _native.duralog_status_t,
}


def header_text():
    with open(HEADER, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    # As a program sees it that asks for no feature: what has one is not mirrored.
    return re.sub(r"^#if defined\(DURALOG_NDJSON\)$.*?^#endif", "", text, flags=re.DOTALL | re.MULTILINE)


class Header:
    """The declarations of the header, in its order."""

    def __init__(self):
        text = header_text()
        self.constants = {
            name: int(value) for name, value in
            re.findall(r"^\s*(?:#define )?([A-Z][A-Z0-9_]+)(?: = | \(?)(-?\d+)\)?,?$", text, re.MULTILINE)}
        self.structs = {
            name: [declaration(field) for field in body.split(";") if field.strip()]
            for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\}", text, re.DOTALL)}
        self.functions = {
            name: (result.strip(), [declaration(part) for part in arguments.split(",") if part.strip() != "void"])
            for result, name, arguments in
            re.findall(r"^(?!typedef|#)([\w ]+[ *]+)(\w+)\(([^)]*)\);", text, re.MULTILINE)}


def declaration(text):
    """("const uint8_t *", "key") for `const uint8_t *key`; an array keeps its length with its type."""
    found = re.fullmatch(r"\s*(.*?)(\w+)(\[\d+\])?\s*", text, re.DOTALL)
    return found.group(1).strip() + (found.group(3) or ""), found.group(2)


def pointed_to(ctype):
    """What a declared pointer points to; None for the untyped ones."""
    return getattr(ctype, "_type_", None) if isinstance(ctype, type) and issubclass(ctype, ctypes._Pointer) else None


class Mirror(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.header = Header()

    def test_the_header_was_understood(self):
        """The check of the check: an expression that matches nothing would make all else pass."""
        text = header_text()
        declared = re.findall(r"^[^#\n]*\b(?:wal|duralog|eventstore)_\w+\([^*]", text, re.M)
        self.assertEqual(len(self.header.functions), len(declared))
        self.assertGreaterEqual(len(self.header.functions), 60)
        self.assertGreaterEqual(len(self.header.constants), 80)
        self.assertEqual(len(self.header.structs), text.count("typedef struct")
                         - len(re.findall(r"typedef struct (\w+) \1;", text)))
        self.assertIn(("const uint32_t *", "key_lens"), self.header.functions["wal_append_batch_packed"][1])
        self.assertIn(("uint8_t[16]", "log_id"), self.header.structs["wal_stat_t"])

    def test_constants_are_those_of_the_header_in_its_order(self):
        mirrored = {name: value for name, value in vars(_native).items()
                    if re.match(r"(DURALOG|WAL|EVENTSTORE)_[A-Z]", name) and isinstance(value, int)}
        self.assertEqual(list(mirrored.items()), list(self.header.constants.items()))

    def test_functions_are_those_of_the_header_in_its_order(self):
        self.assertEqual(list(_native.FUNCTIONS), list(self.header.functions))

    def test_arguments_and_results_have_the_types_of_the_header(self):
        for name, (result, arguments) in self.header.functions.items():
            restype, argtypes = _native.FUNCTIONS[name]
            with self.subTest(name):
                self.check_type(result, restype)
                self.assertEqual(len(argtypes), len(arguments))
                for (ctype, argument), declared in zip(arguments, argtypes):
                    with self.subTest(argument):
                        self.check_type(ctype, declared)

    def test_structs_have_the_fields_of_the_header_in_its_order(self):
        mirrored = {name: kind for name, kind in vars(_native).items()
                    if isinstance(kind, type) and issubclass(kind, ctypes.Structure) and name.endswith("_t")}
        self.assertEqual(list(mirrored), list(self.header.structs))
        for name, fields in self.header.structs.items():
            with self.subTest(name):
                declared = mirrored[name]._fields_
                self.assertEqual([field for field, _ in declared], [field for _, field in fields])
                for (ctype, field), (_, kind) in zip(fields, declared):
                    with self.subTest(field):
                        self.check_type(ctype, kind)

    def check_type(self, ctype, declared):
        array = re.fullmatch(r"(\w+)\[(\d+)\]", ctype)
        if array:
            self.assertEqual((declared._type_, declared._length_), (SCALARS[array.group(1)], int(array.group(2))))
        elif ctype.endswith("*"):
            base = ctype[:-1].replace("const ", "").strip()
            if pointed_to(declared) is None:
                # Untyped. Bytes and texts may be c_char_p too, as nothing else converts from `bytes`.
                allowed = [ctypes.c_void_p] + [ctypes.c_char_p] * (base in ("char", "uint8_t"))
                self.assertIn(declared, allowed)
            elif base.endswith("*"):
                self.assertIs(pointed_to(declared), ctypes.c_void_p)
            else:
                self.assertIs(pointed_to(declared), SCALARS.get(base) or getattr(_native, base))
        else:
            self.assertIs(declared, SCALARS.get(ctype) or getattr(_native, ctype))

    def test_sizes_and_offsets_are_those_of_the_c_compiler(self):
        compiler = shutil.which("cc")
        if compiler is None:
            self.skipTest("no C compiler (cc)")
        lines = []
        for name, fields in self.header.structs.items():
            lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
            for _, field in fields:
                lines.append(f'printf("{name}.{field} %zu\\n", offsetof({name}, {field}));')
        source = '#include "duralog.h"\n#include <stdio.h>\nint main(void) {' + "\n".join(lines) + "return 0; }"
        with tempfile.TemporaryDirectory() as directory:
            program = os.path.join(directory, "sizes")
            subprocess.run([compiler, "-std=c99", "-I", os.path.dirname(HEADER), "-x", "c", "-", "-o", program],
                           input=source.encode(), check=True)
            found = dict(line.split() for line in subprocess.check_output([program], universal_newlines=True).splitlines())
        self.assertEqual(len(found), len(lines))
        for what, number in found.items():
            name, _, field = what.partition(".")
            kind = getattr(_native, name)
            mirrored = getattr(kind, field).offset if field else ctypes.sizeof(kind)
            self.assertEqual(mirrored, int(number), what)

    def test_every_error_status_has_its_exception_and_its_name(self):
        library = _native.library()
        for name, status in self.header.constants.items():
            if name.startswith("DURALOG_E_"):
                error = _errors.CLASSES[status]("text")
                self.assertEqual((error.status, error.name), (status, name))
                self.assertEqual(library.duralog_status_name(status).decode(), name)
        self.assertEqual(_errors.DuralogError("", status=-9999).name, library.duralog_status_name(-9999).decode())


LOAD = "from duralog import _native; print(_native.library()._name)"


class Search(unittest.TestCase):
    def test_variable_names_the_library_and_no_other_is_taken(self):
        loaded = python(LOAD, DURALOG_LIBRARY=_native.library()._name)
        self.assertEqual(loaded.stdout.strip(), _native.library()._name, loaded.stderr)
        failed = python(LOAD, DURALOG_LIBRARY="/nowhere/libduralog.so")
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("LibraryNotFound", failed.stderr)
        self.assertIn("environment variable DURALOG_LIBRARY: /nowhere/libduralog.so", failed.stderr)

    def test_library_beside_the_package_is_taken(self):
        with tempfile.TemporaryDirectory() as directory:
            package = self.copy_of_package(directory)
            shutil.copy(_native.library()._name, os.path.join(package, _native.LIBRARY_NAME))
            loaded = python(LOAD, DURALOG_LIBRARY="", PYTHONPATH=directory)
            self.assertEqual(loaded.stdout.strip(), os.path.join(package, _native.LIBRARY_NAME), loaded.stderr)

    def test_failure_tells_every_place_that_was_tried(self):
        with tempfile.TemporaryDirectory() as directory:
            package = self.copy_of_package(directory)
            failed = python(LOAD, DURALOG_LIBRARY="", PYTHONPATH=directory)
            if failed.returncode == 0:
                self.skipTest("a libduralog is installed in this system")
            for place in (f"beside the package: {os.path.join(package, _native.LIBRARY_NAME)}",
                          "ctypes.util.find_library: none", f"the system's loader: {_native.LIBRARY_NAME}",
                          "set DURALOG_LIBRARY"):
                self.assertIn(place, failed.stderr)

    def test_another_library_and_another_abi_version_are_refused(self):
        another = python(LOAD, DURALOG_LIBRARY=ctypes.CDLL("libc.so.6")._name)
        self.assertIn("is no Duralog library", another.stderr)
        newer = python("from duralog import _native; _native.DURALOG_ABI_VERSION = 1000; _native.library()")
        self.assertIn("this package needs 1000 or greater", newer.stderr)

    def test_format_reader_works_without_the_library(self):
        done = python("import duralog.format, duralog; print(duralog.format.open_log, duralog.Busy)",
                      DURALOG_LIBRARY="/nowhere/libduralog.so")
        self.assertEqual(done.returncode, 0, done.stderr)

    def copy_of_package(self, directory):
        package = os.path.join(directory, "duralog")
        shutil.copytree(os.path.dirname(_native.__file__), package,
                        ignore=shutil.ignore_patterns("__pycache__", _native.LIBRARY_NAME))
        return package


if __name__ == "__main__":
    unittest.main()

"""`pip install ./bindings/python` builds the library, bundles it, and the installed package works.

It runs cargo, so it is asked for with DURALOG_TEST_INSTALL=1. The network is not used.
"""

import os
import subprocess
import sys
import tempfile
import unittest

from support import PROJECT, REPOSITORY

MAIN = """
import duralog, sys
from duralog import _native
with duralog.Wal(sys.argv[1]) as wal:
    wal.append_batch([b"a", b"b"])
    print(len(list(wal.iterate())), duralog.__file__, _native.library()._name, sep="\\n")
"""


@unittest.skipUnless(os.environ.get("DURALOG_TEST_INSTALL") == "1", "slow: set DURALOG_TEST_INSTALL=1")
class Install(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = os.path.realpath(directory.name)
        self.environment = {name: value for name, value in os.environ.items()
                            if name not in ("DURALOG_LIBRARY", "PYTHONPATH")}

    def pip(self, *arguments, check=True, **environment):
        return subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], cwd=REPOSITORY, check=check,
            env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            universal_newlines=True)

    def test_installed_package_works_from_another_directory_with_its_own_library(self):
        target = os.path.join(self.directory, "site")
        self.pip("install", "--no-index", PROJECT, "--target", target)
        done = subprocess.run([sys.executable, "-c", MAIN, "log"], cwd=self.directory, check=True,
                              env={**self.environment, "PYTHONPATH": target}, stdout=subprocess.PIPE,
                              universal_newlines=True)
        count, package, library = done.stdout.split()
        self.assertEqual(count, "2")
        self.assertEqual(os.path.dirname(package), os.path.join(target, "duralog"))
        self.assertEqual(os.path.dirname(library), os.path.join(target, "duralog"))
        self.assertTrue(os.path.isfile(os.path.join(target, "duralog", "py.typed")))

    def test_wheel_is_for_any_python_3_and_this_platform(self):
        self.pip("wheel", "--no-index", "--no-deps", PROJECT, "--wheel-dir", self.directory)
        (wheel,) = os.listdir(self.directory)
        self.assertRegex(wheel, r"^duralog-[0-9.]+-py3-none-\w+\.whl$")
        self.assertNotIn("none-any", wheel)

    def test_failing_build_says_why(self):
        failed = self.pip("wheel", "--no-index", PROJECT, "--wheel-dir", self.directory, check=False,
                          DURALOG_LIBRARY="/nowhere/libduralog.so")
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("DURALOG_LIBRARY names /nowhere/libduralog.so, which is no file", failed.stdout)


if __name__ == "__main__":
    unittest.main()

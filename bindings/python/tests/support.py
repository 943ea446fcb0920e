"""What the tests of the package share: a directory for a log, and other Python processes."""

import os
import subprocess
import sys
import tempfile
import unittest

TESTS = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(TESTS)
REPOSITORY = os.path.dirname(os.path.dirname(PROJECT))


class Case(unittest.TestCase):
    """Each test has a `path` where a log can be made, and nothing is there yet."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "log")


def python(source, *arguments, options=(), timeout=60, **environment):
    """Runs a program in a process of its own; what it printed, with its status."""
    return subprocess.run(command(source, *arguments, options=options), env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=timeout)


def command(source, *arguments, options=()):
    return [sys.executable, *options, "-c", source, *arguments]

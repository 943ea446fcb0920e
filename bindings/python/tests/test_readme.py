"""The programs in README.md run as they stand."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


class Readme(unittest.TestCase):
    def test_its_programs_run(self) -> None:
        programs = [block.split("```")[0] for block in README.read_text().split("```python\n")[1:]]
        self.assertTrue(programs)
        path = os.pathsep.join(filter(None, [str(README.parent / "src"), os.environ.get("PYTHONPATH")]))
        for program in programs:
            with self.subTest(program), tempfile.TemporaryDirectory() as directory:
                done = subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=directory,
                                      env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(done.stdout)


if __name__ == "__main__":
    unittest.main()

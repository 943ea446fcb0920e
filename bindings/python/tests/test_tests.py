"""The tests themselves: none has the name of another beside it, which would replace it, so that it never runs."""

import ast
import unittest
from collections import Counter
from pathlib import Path

_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def defined_twice(source):
    """What a module, or a class of it, defines more than once: each with the scope that it is in."""
    found = []
    for scope in ast.walk(ast.parse(source)):
        if isinstance(scope, (ast.Module, ast.ClassDef)):
            counts = Counter(item.name for item in scope.body if isinstance(item, _NAMED))
            found += [(getattr(scope, "name", ""), name) for name, count in counts.items() if count > 1]
    return found


class Names(unittest.TestCase):
    def test_no_module_and_no_class_defines_a_name_twice(self):
        modules = sorted(Path(__file__).parent.glob("*.py"))
        self.assertIn(Path(__file__).name, [module.name for module in modules])
        for module in modules:
            with self.subTest(module.name):
                self.assertEqual(defined_twice(module.read_text(encoding="utf-8")), [])

    def test_a_name_that_is_there_twice_is_found(self):
        source = ("class A:\n def f(self): pass\n def g(self): pass\n async def f(self): pass\n"
                  "class B:\n def f(self): pass\n"
                  "class A:\n class C: pass\n class C: pass\n")
        self.assertEqual(sorted(defined_twice(source)), [("", "A"), ("A", "C"), ("A", "f")])


if __name__ == "__main__":
    unittest.main()

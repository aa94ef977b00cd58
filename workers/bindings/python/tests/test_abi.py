"""The package against the header: layouts, numbers and prototypes."""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import support
from mqredis import LibraryError, _errors, _library, _values

HEADER = os.path.join(support.ROOT, "workers", "mqredis.h")
STRUCTS = {
    "mqredis_error": _library.Error,
    "mqredis_reply": _library.Reply,
    "mqredis_info": _library.Info,
    "mqredis_event": _library.Event,
}


def header():
    with open(HEADER) as file:
        return re.sub(r"/\*.*?\*/", " ", file.read(), flags=re.S)


def enum(name):
    body = re.search(r"enum %s \{(.*?)\}" % name, header(), re.S).group(1)
    return re.findall(r"MQREDIS_([A-Z_]+)", body)


class Layout(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        program = os.path.join(support.BUILD, "tests", "mqredis_abi")
        out = subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout
        cls.lines = [line.split() for line in out.decode().splitlines()]

    def test_structs_have_the_compilers_sizes(self):
        sizes = {w[1]: int(w[2]) for w in self.lines if w[0] == "struct"}
        for name, kind in STRUCTS.items():
            self.assertEqual(ctypes.sizeof(kind), sizes[name], name)

    def test_fields_lie_where_the_compiler_put_them(self):
        seen = {name: [] for name in STRUCTS}
        for word in self.lines:
            if word[0] != "field" or word[1].split(".")[0] not in STRUCTS:
                continue
            name, field = word[1].split(".")
            ours = getattr(STRUCTS[name], field)
            self.assertEqual([ours.offset, ours.size], [*map(int, word[2:])], word[1])
            seen[name].append(field)
        for name, kind in STRUCTS.items():
            self.assertEqual(seen[name], [f[0] for f in kind._fields_])

    def test_numbers(self):
        numbers = {w[1][8:]: int(w[2]) for w in self.lines if w[0] == "enum"}
        for name in enum("mqredis_type"):
            self.assertEqual(getattr(_library, name), numbers[name], name)
            self.assertIn(numbers[name], _values._DECODERS, name)
        for kind in ("mqredis_event_type", "mqredis_topic", "mqredis_raw_flag"):
            for name in enum(kind):
                self.assertEqual(getattr(_library, name), numbers[name], name)
        lib = _library.load()
        text = lib_function("mqredis_status_str", ctypes.c_char_p, [ctypes.c_int])
        names = enum("mqredis_status")
        self.assertEqual(len(names), len(_errors.BY_STATUS) + 1)
        for name in names[1:]:
            kind = _errors.BY_STATUS[numbers[name]]
            self.assertEqual(kind.status, text(numbers[name]).decode())
        self.assertTrue(lib.version().startswith(b"1."))


def lib_function(name, result, arguments):
    function = ctypes.CDLL(os.environ["MQREDIS_LIBRARY"])[name]
    function.restype, function.argtypes = result, arguments
    return function


SCALARS = {
    "void": None,
    "bool": ctypes.c_bool,
    "int": ctypes.c_int,
    "unsigned": ctypes.c_uint,
    "size_t": ctypes.c_size_t,
    "int64_t": ctypes.c_int64,
    "enum mqredis_status": ctypes.c_int,
    "enum mqredis_topic": ctypes.c_int,
    "const char *": ctypes.c_char_p,
    "const void *": ctypes.c_char_p,
    "const char *const *": ctypes.POINTER(ctypes.c_char_p),
    "const size_t *": ctypes.POINTER(ctypes.c_size_t),
}


def ctypes_of(text):
    """A C type as the package has it."""
    text = " ".join(text.split())
    if text in SCALARS:
        return SCALARS[text]
    struct = re.fullmatch(r"(?:const )?struct (\w+) \*", text)
    if not struct:
        raise AssertionError("a type that the package does not know: " + text)
    name = struct.group(1)
    if name in ("mqredis_error", "mqredis_info", "mqredis_event"):
        return ctypes.POINTER(STRUCTS[name])
    return ctypes.c_void_p


class Prototypes(unittest.TestCase):
    def test_functions_are_declared_as_in_the_header(self):
        found = {}
        for result, name, arguments in re.findall(
            r"MQREDIS_API\s+(?:MQREDIS_CHECK\s+)?([\w\s*]+?)(\bmqredis_\w+)\("
            r"([^)]*)\);",
            header(),
        ):
            found[name] = (result, arguments)
        for name, (result, arguments) in _library.PROTOTYPES.items():
            self.assertIn(name, found)
            self.assertEqual(ctypes_of(found[name][0]), result, name)
            words = found[name][1].split(",")
            if words == ["void"]:
                words = []
            # Without the names of the arguments.
            declared = [ctypes_of(re.sub(r"\w+\s*$", "", w)) for w in words]
            self.assertEqual(declared, arguments, name)


class Finding(unittest.TestCase):
    def test_a_missing_library_is_said_in_one_line(self):
        with self.assertRaises(LibraryError) as caught:
            support.mqredis.open("x", library="/nowhere/libmqredis.so.1")
        text = str(caught.exception)
        self.assertIn("/nowhere/libmqredis.so.1", text)
        self.assertIn("MQREDIS_LIBRARY", text)
        self.assertNotIn("\n", text)

    def test_another_library_is_refused(self):
        with self.assertRaises(LibraryError) as caught:
            support.mqredis.open("x", library="libc.so.6")
        self.assertIn("no libmqredis", str(caught.exception))

    def test_another_version_is_refused(self):
        with mock.patch.object(_library, "MAJOR", "2"):
            with self.assertRaises(LibraryError) as caught:
                _library.Library(os.environ["MQREDIS_LIBRARY"])
        self.assertIn("needs 2.x", str(caught.exception))

    def test_environment_is_asked(self):
        with mock.patch.dict(os.environ, MQREDIS_LIBRARY="/from/environment"):
            with self.assertRaises(LibraryError) as caught:
                support.mqredis.open("x")
        self.assertIn("/from/environment", str(caught.exception))

    def test_the_system_is_asked_last(self):
        # ld.so stands for the system's folders: LD_LIBRARY_PATH is theirs.
        with tempfile.TemporaryDirectory() as folder:
            os.symlink(os.environ["MQREDIS_LIBRARY"], folder + "/libmqredis.so.1")
            environment = dict(os.environ, LD_LIBRARY_PATH=folder)
            del environment["MQREDIS_LIBRARY"]
            environment["PYTHONPATH"] = support.PACKAGE
            code = "import mqredis; print(mqredis.open('x').closed)"
            out = subprocess.run(
                [sys.executable, "-c", code],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
            )
        self.assertEqual(out.stdout, b"False\n")


if __name__ == "__main__":
    unittest.main()

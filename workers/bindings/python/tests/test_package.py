"""Installing from the folder, with nothing from the network, and the examples."""

import os
import subprocess
import sys
import tempfile
import unittest
import zipfile

import support

EXAMPLES = os.path.join(support.PACKAGE, "examples")


def run(*words, **environment):
    """Runs a program to its end: (exit status, all that it printed)."""
    done = subprocess.run(
        words,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=10 * support.WAIT_S,
        preexec_fn=support.die_with_parent,
    )
    return done.returncode, done.stdout.decode()


def has_pip():
    return run(sys.executable, "-m", "pip", "--version")[0] == 0


class Installing(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = self._folder.name

    def tearDown(self):
        self._folder.cleanup()

    def check_import(self, path):
        status, out = run(
            *(sys.executable, "-c", "import mqredis; print(mqredis.__file__)"),
            PYTHONPATH=path,
        )
        self.assertEqual(status, 0, out)
        self.assertIn(path, out)

    @unittest.skipUnless(has_pip(), "this python3 has no pip")
    def test_by_pip_without_a_network(self):
        # From a copy, as building must not write into the sources; with an
        # index that nobody serves.
        status, out = run(
            *(sys.executable, "-m", "pip", "install", "--target", self.folder),
            *("--disable-pip-version-check", "--no-compile", support.PACKAGE),
            PIP_INDEX_URL="http://127.0.0.1:9/",
            PIP_RETRIES="0",
        )
        self.assertEqual(status, 0, out)
        self.check_import(self.folder)
        self.assertIn("mqredis-1.0.0.dist-info", os.listdir(self.folder))

    def test_by_the_backend(self):
        sys.path.insert(0, support.PACKAGE)
        import build_backend

        name = build_backend.build_wheel(self.folder)
        with zipfile.ZipFile(os.path.join(self.folder, name)) as wheel:
            self.assertIsNone(wheel.testzip())
            names = wheel.namelist()
            wheel.extractall(os.path.join(self.folder, "site"))
        record = os.path.join(self.folder, "site", "mqredis-1.0.0.dist-info/RECORD")
        with open(record) as file:
            self.assertEqual([line.split(",")[0] for line in file], names)
        modules = [n for n in os.listdir(support.PACKAGE + "/mqredis") if ".py" in n]
        for module in modules:
            self.assertIn("mqredis/" + module, names)
        self.check_import(os.path.join(self.folder, "site"))
        self.assertTrue(build_backend.build_sdist(self.folder).endswith(".tar.gz"))

    def test_versions_agree(self):
        import build_backend

        self.assertEqual(build_backend.VERSION, support.mqredis.__version__)
        with open(os.path.join(support.PACKAGE, "pyproject.toml")) as file:
            self.assertIn('version = "%s"' % build_backend.VERSION, file.read())


class Examples(support.HostCase):
    def example(self, name, *arguments):
        return run(
            *(sys.executable, "-W", "error", os.path.join(EXAMPLES, name)),
            *arguments,
            PYTHONPATH=support.PACKAGE,
            MQREDIS_CHANNEL=self.host.channel,
        )

    def test_prefork(self):
        status, out = self.example("prefork.py", "4", "50")
        self.assertEqual((status, out), (0, ANSWERS))

    def test_many_at_once(self):
        status, out = self.example("many_at_once.py", "300")
        self.assertEqual(status, 0, out)
        self.assertIn("300 of 300 values were right\n", out)
        self.assertEqual(self.redis("DBSIZE"), 0)

    def test_without_a_manager_they_say_so(self):
        for name in ("prefork.py", "many_at_once.py"):
            status, out = run(
                *(sys.executable, os.path.join(EXAMPLES, name), "2", "2"),
                PYTHONPATH=support.PACKAGE,
                MQREDIS_CHANNEL="nobody-%d" % os.getpid(),
            )
            self.assertEqual(status, 1)
            self.assertIn("no manager", out)
            self.assertEqual(out.count("\n"), 1, out)


ANSWERS = "4 of 4 children had 50 right answers each\n"


if __name__ == "__main__":
    unittest.main()

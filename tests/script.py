"""What cases in Python need of the program that runs them: see script.h."""

import sys
import time
import traceback


def cannot(why):
    print(why, flush=True)
    sys.exit(77)


def order(what):
    """Orders something of the program that runs us: "kill manager"."""
    print("@" + what, flush=True)
    assert sys.stdin.readline() == "done\n", what


def until(holds, what):
    """Waits for what is to happen, ten seconds at most."""
    for _ in range(5000):
        if holds():
            return
        time.sleep(0.002)
    raise AssertionError("never: " + what)


def raises(kind, call, *args, **kwargs):
    try:
        got = call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {got!r}")


def run_cases(cases):
    """Runs a case, or names them all."""
    if len(sys.argv) < 2:
        print("\n".join(cases))
        return
    try:
        cases[sys.argv[1]]()
    except Exception:
        traceback.print_exc(file=sys.stdout)
        sys.exit(1)

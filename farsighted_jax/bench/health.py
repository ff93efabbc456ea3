"""Looks at a server's health until it is terminated, then prints the seconds of each look as JSON.

    python farsighted_jax/bench/health.py PORT

A process of its own, of the standard library alone: among the threads of many clients a look would wait for
them, not for the server.
"""

import json
import signal
import sys
import threading
import time
import urllib.request

EVERY_S = 0.02


def main(port: str) -> None:
    """Prints "looking" once the first look is over."""
    over, seconds = threading.Event(), []
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    while not over.is_set():
        begin = time.perf_counter()
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60).read()
        seconds.append(time.perf_counter() - begin)
        if len(seconds) == 1:
            print("looking", flush=True)
        over.wait(EVERY_S)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1])

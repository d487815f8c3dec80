"""`python -m osftx` in processes forked from one that has imported it: for commands that only check and refuse.

What a fresh interpreter adds is tested in test_cli as well, by the other commands there.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


class CommandServer:
    """The process to fork from. One command at a time, in the checkout's folder."""

    def __init__(self, scratch: Path, environment: dict[str, str]):
        self._scratch = scratch
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        screen, complaints = self._scratch / "stdout", self._scratch / "stderr"
        self._process.stdin.write(json.dumps([str(screen), str(complaints), *arguments]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(list(arguments), code, screen.read_text(), complaints.read_text())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def serve() -> None:
    """Read commands from stdin, run each, answer its exit code on stdout."""
    import datasets  # noqa: F401

    for line in sys.stdin:
        screen, complaints, *arguments = json.loads(line)
        process = os.fork()
        if process == 0:
            _be_command(screen, complaints, arguments)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be_command(screen: str, complaints: str, arguments: Sequence[str]) -> None:
    code: object = 1
    for stream, file in ((1, screen), (2, complaints)):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
    from osftx.cli.app import main

    sys.argv = ["osftx", *arguments]
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve()

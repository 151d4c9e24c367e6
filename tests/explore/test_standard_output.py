"""The live page stays for whoever has read its address, and is not served where nobody has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.captures import CAPTURES

pytestmark = pytest.mark.process

HOST = next(iter(sorted((CAPTURES / "kvm").glob("*.txt.gz"))))


@contextmanager
def explorer(stdout: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "vcpuid", "explore", str(HOST), "--no-browser"]
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_page_stays_where_the_reader_of_its_address_has_gone() -> None:
    with explorer(subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        process.stdout.close()
        with urllib.request.urlopen(url, timeout=30) as page:
            assert page.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT


def test_an_address_that_nobody_reads_is_not_served() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with explorer(writer) as process:
        os.close(writer)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (4, "vcpuid: nobody learns the page's address: whoever read standard output has gone\n")

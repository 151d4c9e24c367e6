"""How long the explorer takes: to start, to be seen, to be drawn anew; and how large it is.

python benchmarks/bench_explore.py      needs Chromium and Playwright for what the browser does

The goals: a saved file is seen within 0.3 s, a filter is drawn within 50 ms over 700 features, the address is there within 0.5 s of the
command, and another CPU is seen on the live page within 0.1 s of the server's answer. Times in the browser are its own clock's, of the
first paint from the start of the navigation.
"""

from __future__ import annotations

import gzip
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from timing import median

from vcpuid import read
from vcpuid.answers.certainty import followed
from vcpuid.explore import data, page
from vcpuid.explore.pack import pack
from vcpuid.explore.subject import Subject
from vcpuid.setup import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CAPTURE = Path(__file__).parents[1] / "tests" / "captures" / "kvm" / "kvm-intel.corei7_skylake_x@6.12.txt.gz"
RUNS = 9

REDRAWS = """async (hashes) => {
  const pause = () => new Promise((resolve) => setTimeout(resolve));
  const times = [];
  for (const hash of hashes) {
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    const began = performance.now();
    location.hash = hash;
    while (document.documentElement.dataset.drawing) await Promise.resolve();
    document.body.offsetHeight;
    times.push(performance.now() - began);
    await pause();
  }
  return times;
}"""
"""Go to each address and time until it is drawn and laid out."""

ANSWERS = """async (cpus) => {
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const times = [];
  for (const cpu of cpus) {
    performance.clearResourceTimings();
    location.hash = `cpu=${cpu}`;
    do await pause(1); while (document.documentElement.dataset.drawing);
    document.body.offsetHeight;
    const drawn = performance.now();
    await pause(100);
    times.push(drawn - Math.max(...performance.getEntriesByType("resource").map((entry) => entry.responseEnd)));
  }
  return times;
}"""
"""Ask for each CPU and time from the end of the server's answer until it is drawn and laid out."""

CPUS = ["Penryn", "Skylake-Client-v4", "EPYC", "max", "qemu64", "Broadwell-v4", "Nehalem"]

HASHES = ["f=lost", "", "p=qemu", "p=kvm&f=gained", "q=avx", "q=x", "", "bit=7.0.ebx.16", "bit=7.0.ebx.5"] * 3


COMMAND = [str(Path(sys.executable).with_name("vcpuid")), "explore", str(CAPTURE), "--cpu", "Haswell", "--no-browser"]


def started() -> tuple[float, float]:
    """Return the seconds from the command to its address, and those on the processor, of which there may be too few."""
    began = time.perf_counter()
    run = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert run.stdout is not None
    run.stdout.readline()
    taken = time.perf_counter() - began
    run.terminate()
    _, status, used = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    run.stdout.close()
    return taken, used.ru_utime + used.ru_stime


def answered(browser: Browser) -> list[float]:
    """Return the milliseconds from the server's answer until it is seen, a CPU each."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        shown = browser.new_page(viewport={"width": 1400, "height": 900})
        shown.goto(run.stdout.readline().split()[-1])
        shown.wait_for_selector("html[data-ready]")
        times: list[float] = shown.evaluate(ANSWERS, CPUS)
        run.terminate()
    return times


def main() -> None:
    """Print a line a figure."""
    path = followed("Skylake-Server-v4", host=read(CAPTURE), stack=Stack(qemu="11.1"))
    subject = Subject("host.txt", path)
    document = data.document([data.whole(subject)])
    text = page.saved(document)
    starts = [started() for _ in range(RUNS)]
    wall, processor = (statistics.median(times) * 1e3 for times in zip(*starts, strict=True))
    print(f"start to address    {wall:8.0f} ms   goal 500, {processor:.0f} of them on the processor")
    print(f"path as a document  {median(lambda: data.first(subject), 3) * 1e3:8.0f} ms")
    print(f"packing it          {median(lambda: pack(data.first(subject)), 3) * 1e3:8.0f} ms   with the line above")
    print(f"a saved path        {len(text):8} bytes, {len(gzip.compress(text.encode()))} compressed   goal 120000")
    if find_spec("playwright") is None or not (chromium := which("chromium")):
        print("no Chromium, or no Playwright: nothing is drawn")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(text, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        painted, drawn = [], []
        for _ in range(RUNS):
            shown = browser.new_page(viewport={"width": 1400, "height": 900})
            shown.goto(file.as_uri())
            shown.wait_for_selector("html[data-ready]")
            painted.append(shown.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            drawn += shown.evaluate(REDRAWS, HASHES)
            shown.close()
        waited = answered(browser)
        browser.close()
    print(f"first paint         {statistics.median(painted):8.0f} ms   goal 300, {min(painted):.0f} to {max(painted):.0f}")
    print(f"after the answer    {statistics.median(waited):8.0f} ms   goal 100, {min(waited):.0f} to {max(waited):.0f}")
    slow = sorted(drawn)[len(drawn) * 95 // 100]
    print(f"a redraw            {statistics.median(drawn):8.1f} ms   goal 50, one in twenty takes more than {slow:.0f}")


if __name__ == "__main__":
    main()

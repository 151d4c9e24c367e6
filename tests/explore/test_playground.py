"""The playground of the documentation's site: vcpuid in the reader's own browser answers as the command line does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support.browser import CHROMIUM, opened
from support.captures import capture
from support.command import vcpuid
from support.tools import load_tool

pytestmark = [pytest.mark.browser, pytest.mark.long]

PLAYGROUND = load_tool("playground")
MILAN = capture("kvm-amd.EPYC-Milan-v2@7.3")


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}  # noqa: RUF012

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("site")
    try:
        archive = PLAYGROUND.brought(PLAYGROUND.ROOT / "build")
    except OSError as error:
        pytest.skip(f"no Pyodide: {error}")
    PLAYGROUND.make(folder / "playground", archive)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/playground/"
        server.shutdown()
        thread.join()


def test_a_path_worked_out_in_the_browser_is_what_the_command_line_says(site: str) -> None:
    from playwright.sync_api import sync_playwright

    names = ["avx2", "rtm", "vmx", "svm", "x2apic", "hypervisor", "avx512f", "arch-capabilities", "monitor", "spec-ctrl"]
    options = ("--cpu", "Haswell-v4", "--qemu", "10.0", "--host", str(MILAN), "--format", "json")
    wanted: list[dict[str, Any]] = json.loads(vcpuid("explain", *names, *options).stdout)["explanations"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with opened(browser, site, (1400, 900)) as shown:
            assert "Skylake" in shown.locator("#subject").inner_text()  # one of those that are there
            shown.locator("summary", has_text="Read").click()
            shown.set_input_files("#file", files=[{"name": "milan.txt.gz", "mimeType": "application/gzip", "buffer": MILAN.read_bytes()}])
            shown.locator("#subject", has_text="EPYC Milan").wait_for(timeout=120_000)  # a host that is known is not taken twice
            shown.locator("summary", has_text="Choose").click()
            shown.fill("[name=cpu]", "Haswell-v4")
            shown.select_option("[name=qemu]", "10.0")
            shown.get_by_role("button", name="Show", exact=True).click()
            shown.locator("#subject", has_text=re.compile("QEMU 10.0.*Haswell-v4")).wait_for(timeout=120_000)
            for answer in wanted:
                shown.fill("#q", answer["feature"])
                shown.keyboard.press("Enter")
                shown.locator("#panel h2", has_text=answer["feature"]).wait_for()
                assert answer["verdict"] in shown.locator("#panel").inner_text()
                rows = shown.evaluate("[...document.querySelectorAll('#panel tbody tr')].map(row => row.cells[1].textContent)")
                spoken = {True: "yes", False: "no", None: "–"}
                assert rows == [spoken[stage["value"]] for stage in answer["stages"]]
        browser.close()


def test_what_is_no_archive_of_pyodides_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / f"pyodide-{PLAYGROUND.VERSION}.tgz").write_bytes(b"another")
    with pytest.raises(OSError, match="is not the archive that was expected"):
        PLAYGROUND.brought(tmp_path)

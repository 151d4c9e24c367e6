"""The page in a real browser: what it shows is what the answers say, it can be used by anybody, and nothing goes anywhere."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from support.browser import CHROMIUM, axe, opened
from support.captures import CAPTURES, capture, some
from vcpuid import Stack, read
from vcpuid.answers.certainty import followed
from vcpuid.answers.explain import explain
from vcpuid.cpuid.names import find, find_all
from vcpuid.explore import data, page
from vcpuid.explore.bench import Bench, HostAtHand
from vcpuid.explore.server import Server
from vcpuid.explore.subject import Subject

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.long]

SKYLAKE = capture("kvm-intel.corei7_skylake_x@6.12")
MILAN = capture("kvm-amd.EPYC-Milan-v2@7.3")
UNTOLD = CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz"
WIDE, PHONE = (1400, 900), (390, 844)
VIEWS = ("bits", "table", "compare", "models", "leaves", "hazards")
MOVES = [
    ("ArrowRight", "7.0.edx.25"), ("ArrowLeft", "7.0.edx.26"), ("Home", "7.0.edx.31"), ("End", "7.0.edx.0"), ("ArrowUp", "7.0.ecx.0"),
    ("ArrowDown", "7.0.edx.0"), ("Control+Home", "1.0.ecx.31"), ("PageDown", "1.0.edx.31"), ("PageUp", "1.0.ecx.31"),
]  # fmt: skip
"""Keys in the grid, one after the other, and the bit to which each leads."""
HOSTILE = "a</script><img src=x onerror=alert(1)>'\"\u2028.txt"
GUEST = Path(__file__).parents[1] / "golden" / "host-model.xml"

SUBJECTS = {
    "skylake": (SKYLAKE, "Skylake-Server-v4", Stack(qemu="11.1")),
    "milan": (MILAN, "Haswell-v4", Stack(qemu="10.0")),
    "untold": (UNTOLD, "Cascadelake-Server", Stack(qemu="11.1")),
}


@cache
def subject(name: str) -> Subject:
    file, cpu, stack = SUBJECTS[name]
    return Subject(name, followed(cpu, host=read(file), stack=stack), None, ("--cpu", cpu, "--qemu", stack.qemu or "", "--host", str(file)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    folder = tmp_path_factory.mktemp("pages")

    def save(*names: str) -> str:
        file = folder / f"{'-'.join(names)}.html"
        if not file.exists():
            file.write_text(page.saved(data.document(data.whole(subject(name)) for name in names)), encoding="utf-8")
        return file.as_uri()

    return save


def part(*names: str) -> dict[str, Any]:
    """A document of some words and models alone: axe looks at each bit for long."""
    found: dict[str, Any] = json.loads(json.dumps(data.document(data.whole(subject(name)) for name in names)))
    for told in found["subjects"]:
        words = {word["word"] for word in told["path"]["words"][3:6] + told["path"]["words"][-1:]}
        for kind in ("words", "features"):
            told["path"][kind] = [one for one in told["path"][kind] if one["word"] in words]
        told["models"]["models"] = told["models"]["models"][::20]
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(Bench({"skylake": HostAtHand(read(SKYLAKE), ("--host", str(SKYLAKE)))})) as made:
        thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def settled(shown: Page) -> None:
    """Wait until nothing is being worked out and the page has drawn."""
    shown.wait_for_selector("html[data-ready]", timeout=60_000)
    shown.wait_for_timeout(30)
    until(shown, "!document.documentElement.dataset.drawing")


def until(shown: Page, expression: str) -> None:
    """Wait until something holds; the page's policy lets no text be evaluated from within it."""
    began = time.monotonic()
    while not shown.evaluate(expression):
        assert time.monotonic() - began < 60, expression
        shown.wait_for_timeout(20)


def rows(shown: Page) -> list[list[str]]:
    """What stands in the rows of the table that are shown, in their order."""
    found: list[list[str]] = shown.evaluate(
        """[...document.querySelectorAll('#view tbody tr')].filter(row => !row.hidden)
           .map(row => [...row.cells].map(cell => cell.textContent))"""
    )
    return found


def spoken(stage: Any) -> str:
    return "yes" if stage.value else "no" if stage.value is False else "not told" if stage.basis.value == "not told" else "–"


@pytest.mark.parametrize("name", some(["untold", "milan"], 2))
def test_the_table_and_the_grid_have_every_bit_as_explain_says_it(browser: Browser, saved: Callable[..., str], name: str) -> None:
    path = subject(name).path
    with opened(browser, f"{saved(name)}#view=table", WIDE) as shown:
        told = rows(shown)
        shown.evaluate("location.hash = 'view=bits'")
        settled(shown)
        labels: dict[str, str] = shown.evaluate(
            "Object.fromEntries([...document.querySelectorAll('.bit')].map(bit => [bit.dataset.id, bit.getAttribute('aria-label')]))"
        )
    document = json.loads(json.dumps(data.first(subject(name))))["path"]
    assert len(told) == len(document["features"]) > 700
    for feature, row in zip(document["features"], told, strict=True):
        if feature["id"].partition("@")[1] or feature["feature"] == feature["id"]:
            continue  # older kernels' own, and bits without a name, of which the document is held against explain
        answer = explain(find(feature["id"]), path)
        assert row[0] == answer.feature.name
        assert row[2:-1] == [spoken(stage) for stage in answer.stages]
        seen = {True: "the guest sees it", False: "the guest does not see it"}.get(answer.visible)  # type: ignore[arg-type]
        assert seen is None or seen in labels[feature["id"]]
        assert (": not told whether" in labels[feature["id"]]) == bool(answer.depends)
    assert len(labels) > 2000


@pytest.mark.parametrize("name", some(["vmx-ept", "rtm", "avx512f", "hypervisor", "osxsave", "constant_tsc"], 2))
def test_the_panel_says_what_explain_says(browser: Browser, saved: Callable[..., str], name: str) -> None:
    feature = find(name)
    for host in ("skylake", "untold"):
        answer = explain(feature, subject(host).path)
        with opened(browser, f"{saved(host)}#bit={data.identity(feature)}", WIDE) as shown:
            panel = shown.locator("#panel").inner_text()
            table = shown.evaluate(
                "[...document.querySelectorAll('#panel tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
            )
        assert answer.verdict in panel
        assert all(f"{reason.feature}: {reason.text}" in panel and reason.rule.id in panel for reason in answer.chain)
        assert all(str(fact.how) in panel for fact in answer.depends)
        assert answer.visible or answer.remedy is None or answer.remedy in panel
        told = [(stage.party, spoken(stage), stage.basis.value, stage.why) for stage in answer.stages]
        assert [(party, value) for party, value, _ in table] == [(party, value) for party, value, *_ in told]
        assert all(known.startswith(basis) and known.endswith(why) for (*_, known), (*_, basis, why) in zip(table, told, strict=True))
        assert f"vcpuid explain {feature.name} --cpu" in panel


@pytest.mark.parametrize(("size", "scheme"), some([(WIDE, "light"), (WIDE, "dark"), (PHONE, "dark"), (PHONE, "light")], 2))
def test_every_view_is_drawn_without_error_request_or_overflow_and_keeps_axes_rules(
    browser: Browser, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    file = tmp_path / "part.html"
    file.write_text(page.saved(part("skylake", "milan")), encoding="utf-8")
    with opened(browser, f"{file.as_uri()}#b=1&bit=7.0.ebx.16", size, scheme=scheme, bypass_csp=True) as shown:
        for view in VIEWS:
            shown.evaluate(f"location.hash = 'view={view}&b=1&bit=7.0.ebx.16'")
            settled(shown)
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            if (size, scheme) in ((WIDE, "light"), (PHONE, "dark")):
                assert axe(shown) == [], view


def test_the_live_page_keeps_axes_rules_and_shows_the_bits_of_an_untold_host(browser: Browser, server: Server) -> None:
    with opened(browser, server.url, WIDE, bypass_csp=True) as shown:
        shown.locator("details summary").first.click()
        shown.locator("details summary").nth(1).click()
        shown.set_input_files("#file", files=[{"name": "untold.gz", "mimeType": "application/gzip", "buffer": UNTOLD.read_bytes()}])
        until(shown, "document.getElementById('subject').textContent.startsWith('untold.gz')")
        settled(shown)
        assert "not told" in shown.locator("#strip").inner_text()
        assert axe(shown, "#ask") == []


def test_it_is_used_by_the_keyboard_alone(browser: Browser, saved: Callable[..., str]) -> None:
    with opened(browser, saved("skylake"), WIDE) as shown:
        focus: Callable[[], Any] = lambda: shown.evaluate("[document.activeElement.id, document.activeElement.dataset.id ?? null]")  # noqa: E731
        shown.keyboard.press("/")
        assert focus() == ["q", None]
        shown.keyboard.type("spec_ctrl")
        shown.keyboard.press("Enter")
        assert "bit=7.0.edx.26" in shown.url
        assert shown.locator("#panel h2").inner_text() == "spec-ctrl"
        shown.keyboard.press("Escape")
        assert "q=" not in shown.url
        for _ in range(60):
            shown.keyboard.press("Tab")
            if focus()[1]:
                break
        assert focus()[1] == "7.0.edx.26"  # one stop for the whole grid: the bit that was chosen
        for key, expected in MOVES:
            shown.keyboard.press(key)
            assert focus()[1] == expected, key
        shown.keyboard.press("Enter")
        assert focus()[1] == "1.0.ecx.31"
        assert shown.locator("#panel h2").inner_text() == "hypervisor"
        shown.keyboard.press("Shift+Tab")
        assert focus()[1] is None
        assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_spelling_finds_first_what_it_finds_for_the_verbs(browser: Browser, saved: Callable[..., str]) -> None:
    texts = [
        "spec_ctrl",
        "X86_FEATURE_AVX2",
        "sse4_1",
        "ibpb",
        "avx512",
        "CPUID.07H:EBX.avx2 [bit 5]",
        "CPUID[eax=07h,ecx=00h].EBX.avx2 [bit 5]",
    ]
    texts += [
        "7.0.ebx.5",
        "msr.10a.0",
        "MSR(10AH).rdctl-no [bit 0]",
        "+vmx",
        "pni",
        "VMX_FEATURE_EPT",
        "arch-capabilities",
        "CPUID_7_0_EBX.5",
    ]
    cards: Any = data.names()["features"]
    texts += [text for card in cards[::37] for text in card["spellings"][-1:] if "@" not in card["id"]]
    known = {feature["id"] for feature in data.first(subject("skylake"))["path"]["features"]}  # type: ignore[index]
    with opened(browser, f"{saved('skylake')}#view=table", WIDE) as shown:
        for text in texts:
            shown.fill("#q", text)
            first = rows(shown)[0][0]
            wanted = "avx512f" if text == "avx512" else None
            if text == "CPUID_7_0_EBX.5":
                wanted = "avx2"
            meant = wanted or next(feature.name for feature in find_all(text) if data.identity(feature) in known)
            assert first == meant, text
        shown.fill("#q", "no such thing")
        assert rows(shown) == []


def test_a_bit_without_a_name_has_its_values(browser: Browser, saved: Callable[..., str]) -> None:
    path = subject("skylake").path
    told = next(feature for feature in data.first(subject("skylake"))["path"]["features"] if feature["feature"] == feature["id"])  # type: ignore[index]
    with opened(browser, f"{saved('skylake')}#bit={told['id']}", WIDE) as shown:
        assert explain(find(told["id"]), path).verdict in shown.locator("#panel").inner_text()
        shown.evaluate("location.hash = 'bit=1.0.ecx.16'")
        settled(shown)
        assert "No name" in shown.locator("#panel").inner_text()
        assert shown.evaluate("[...document.querySelectorAll('#panel tbody td')].map(cell => cell.textContent)") == ["no"] * 6


def test_the_address_restores_the_view_and_back_goes_back(browser: Browser, saved: Callable[..., str]) -> None:
    with opened(browser, saved("skylake"), WIDE) as shown:
        shown.get_by_role("button", name="lost").first.click()
        shown.locator("#strip button").nth(3).click()
        shown.locator('nav a[data-view="table"]').click()
        settled(shown)
        before = rows(shown)
        assert before
        assert all(row[-1] == "lost by qemu" for row in before)
        url = shown.url
        assert re.search(r"#view=table&f=lost&p=qemu$", url)
        shown.go_back()
        settled(shown)
        assert shown.locator(".word").first.is_visible()
        shown.goto("about:blank")
        shown.goto(url)
        settled(shown)
        assert rows(shown) == before
        assert shown.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_the_table_is_sorted_by_any_column_both_ways(browser: Browser, saved: Callable[..., str]) -> None:
    with opened(browser, f"{saved('untold')}#view=table", WIDE) as shown:
        shown.locator("thead button", has_text="guest").click()
        values = [row[7] for row in rows(shown)]
        assert values == sorted(values, key=["yes", "not told", "no", "–"].index)
        assert "not told" in values
        shown.locator("thead button", has_text="guest").click()
        assert [row[7] for row in rows(shown)] == values[::-1] or rows(shown)[0][7] == "–"
        assert shown.locator("thead th[aria-sort=descending]").inner_text().startswith("guest")
        shown.locator("thead button", has_text="feature").click()
        names = [row[0] for row in rows(shown)]
        assert names == sorted(names, key=lambda name: [ord(letter) for letter in name])


def test_two_paths_are_held_against_each_other_bit_by_bit(browser: Browser, saved: Callable[..., str]) -> None:
    one, other = subject("skylake").path, subject("milan").path
    with opened(browser, f"{saved('skylake', 'milan')}#view=compare&b=1", WIDE) as shown:
        told = {row[1]: row for row in rows(shown)}
        for place, row in told.items():
            feature = find(place)
            if feature.bit is None:
                continue
            values = [explain(feature, path).visible for path in (one, other)]
            assert values[0] != values[1]
            assert [row[2], row[4]] == [{True: "yes", False: "no"}[bool(value)] if value is not None else "–" for value in values], place
        assert str(find("avx512f").bit) in told
        shown.get_by_role("button", name="also what is the same").click()
        assert len(rows(shown)) > 800
        shown.evaluate("location.hash = 'view=bits&b=1&f=diff'")
        settled(shown)
        assert 0 < shown.locator(".bit.hit").count() <= len(told)


def test_models_leaves_and_hazards_are_those_of_the_path(browser: Browser, saved: Callable[..., str]) -> None:
    whole: Any = json.loads(json.dumps(data.whole(subject("skylake"))))
    with opened(browser, f"{saved('skylake')}#view=models", WIDE) as shown:
        told = {row[0].partition(" = ")[0]: row[1] for row in rows(shown)}
        assert told == {model["model"]: "yes" if model["runs"] else "no" for model in whole["models"]["models"]}
        assert shown.get_by_role("button", name="apply").count() == 0
        shown.evaluate("location.hash = 'view=leaves'")
        settled(shown)
        text = shown.locator("#view").inner_text()
        assert all(line.strip() in text for line in whole["leaves"]["guest"]["foot"] if line.strip())
        shown.locator("summary", has_text="00000007.0").click()
        shown.locator("details[open] tbody").wait_for()
        field = next(
            field
            for leaf in whole["leaves"]["guest"]["leaves"]
            if leaf["function"] == "00000007"
            for field in leaf["fields"]
            if field["raw"]
        )
        assert field["name"] in shown.locator("details[open]").inner_text()
        shown.get_by_role("button", name="the host's").click()
        assert "Skylake" in shown.locator("#view").inner_text()
        shown.evaluate("location.hash = 'view=hazards'")
        settled(shown)
        text = shown.locator("#view").inner_text()
        assert whole["hazards"]["proposal"] in text
        assert all(hazard["consequence"] in text for hazard in whole["hazards"]["hazards"])


def test_yes_no_and_not_told_look_different_without_colour(browser: Browser, saved: Callable[..., str]) -> None:
    with opened(browser, saved("untold"), WIDE, forced_colors="active") as shown:
        looks = shown.evaluate(
            """['yes', 'no', 'open', 'none', 'fall', 'rise'].map(kind => {
              const bar = document.querySelector(`.bits-of i.${kind}`);
              const { backgroundImage, backgroundColor, borderTopWidth, borderTopColor, clipPath } = getComputedStyle(bar);
              return [backgroundImage !== 'none', backgroundColor !== 'rgba(0, 0, 0, 0)', borderTopWidth, clipPath].join();
            })"""
        )
        assert len(set(looks[:3])) == 3
        assert len(set(looks[4:])) == 2
        shown.evaluate("location.hash = 'view=table'")
        settled(shown)
        marks = {
            kind: shown.evaluate(f"getComputedStyle(document.querySelector('td.value.{kind}'), '::before').content")
            for kind in ("yes", "no", "open", "none")
        }
        assert len(set(marks.values())) == 4


def test_paper_gets_the_bits_and_the_explanation(browser: Browser, saved: Callable[..., str]) -> None:
    with opened(browser, f"{saved('skylake')}#bit=7.0.ebx.16", WIDE) as shown:
        shown.emulate_media(media="print")
        assert not shown.locator("nav").is_visible()
        assert shown.evaluate("getComputedStyle(document.querySelector('#panel')).position") == "static"
        assert shown.locator("#panel").is_visible()
        printed = shown.pdf(format="A4")
        assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") > 5 or len(printed) > 50_000


def test_without_scripts_there_is_the_table(browser: Browser, saved: Callable[..., str]) -> None:
    with opened(browser, saved("milan"), WIDE, java_script_enabled=False) as shown:
        assert shown.locator("tbody tr").count() > 700
        assert shown.locator("tbody tr", has_text="avx512f").first.is_visible()


def test_host_cpu_and_software_are_chosen_on_the_live_page(browser: Browser, server: Server) -> None:
    with opened(browser, server.url, WIDE) as shown:
        shown.locator("summary", has_text="Choose").click()
        shown.fill("[name=cpu]", "Haswell")
        shown.select_option("[name=qemu]", "7.2")
        shown.fill("[name=params]", "nested=0")
        shown.check("[name=what_if]")
        shown.get_by_role("button", name="Show", exact=True).click()
        until(shown, "document.getElementById('subject').textContent.includes('QEMU 7.2')")
        settled(shown)
        assert "cpu=Haswell&qemu=7.2&params=nested%3D0&what_if=1" in shown.url
        shown.fill("[name=cpu]", "Nehalem")
        shown.get_by_role("button", name="Compare with this").click()
        until(shown, "document.getElementById('subject').textContent.includes('Nehalem')")
        settled(shown)
        assert "avx2" in [row[0] for row in rows(shown)]
        url = shown.url
        shown.goto("about:blank")
        shown.goto(url)
        settled(shown)
        assert "avx2" in [row[0] for row in rows(shown)]
        shown.locator('nav a[data-view="models"]').click()
        settled(shown)
        shown.get_by_role("button", name="Show the path of Penryn-v1").click()
        settled(shown)
        shown.locator("summary", has_text="Choose").click()
        assert "-cpu Penryn-v1" in shown.locator("#subject").inner_text()
        shown.fill("[name=cpu]", "no such model")
        shown.get_by_role("button", name="Show", exact=True).click()
        shown.wait_for_selector("#trouble .bad")
        assert "no such model" in shown.locator("#trouble").inner_text()
        shown.fill("[name=cpu]", "host")
        shown.get_by_role("button", name="Show", exact=True).click()
        until(shown, "document.getElementById('subject').textContent.includes('-cpu host')")
        assert shown.locator("#trouble").inner_text() == ""


def test_a_dump_a_domain_and_an_error_are_dropped_on_the_live_page(browser: Browser, server: Server) -> None:
    with opened(browser, server.url, WIDE) as shown:
        shown.evaluate(
            """([name, bytes]) => {
              const carried = new DataTransfer();
              carried.items.add(new File([Uint8Array.from(bytes)], name));
              const how = { dataTransfer: carried, bubbles: true, cancelable: true };
              for (const kind of ['dragover', 'drop']) document.body.dispatchEvent(new DragEvent(kind, how));
            }""",
            [HOSTILE, list(MILAN.read_bytes())],
        )
        until(shown, "document.getElementById('subject').textContent.includes('onerror')")
        settled(shown)
        assert shown.locator("#subject").inner_text().startswith(HOSTILE.partition("\u2028")[0])
        assert shown.locator("img").count() == 0
        shown.locator("summary", has_text="Read").click()
        shown.fill("#paste", GUEST.read_text(encoding="utf-8"))
        shown.get_by_role("button", name="Read", exact=True).click()
        until(shown, "document.getElementById('strip').textContent.includes('libvirt')")
        settled(shown)
        shown.fill("#paste", "guest CPU doesn't match specification: missing features: pcid,hle,rtm")
        shown.get_by_role("button", name="Read", exact=True).click()
        shown.wait_for_selector("#said a[data-id]")
        assert "What you can do" in shown.locator("#said").inner_text()
        shown.locator("#said a[data-id]", has_text="pcid").click()
        assert shown.locator("#panel h2").inner_text() == "pcid"
        shown.fill("#paste", "nothing that is known")
        shown.get_by_role("button", name="Read", exact=True).click()
        shown.wait_for_selector("#said .bad")
        assert shown.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_text_of_a_hostile_file_is_text_in_the_browser(browser: Browser, tmp_path: Path) -> None:
    asked = subject("skylake")
    argument = "Haswell,model-id=</script><img src=x onerror=alert(1)>"
    hostile = Subject(HOSTILE, followed(argument, host=asked.path.host, stack=Stack(qemu="11.1")), None, ("--cpu", argument))
    file = tmp_path / "hostile.html"
    file.write_text(page.saved(data.document([data.whole(hostile)])), encoding="utf-8")
    with opened(browser, f"{file.as_uri()}#view=leaves", WIDE) as shown:
        assert "</script><img src=x onerror=alert(1)>" in shown.locator("#view").inner_text()
        shown.evaluate("location.hash = 'q=' + encodeURIComponent('<img src=x onerror=alert(1)>') + '&bit=<b>&p=<i>&view=<u>'")
        settled(shown)
        assert shown.locator("img, u").count() == 0

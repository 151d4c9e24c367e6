"""Build vcpuid for where people are, and try what was built away from this checkout.

    python tools/packages.py                           all kinds; what lacks its tool is passed over
    python tools/packages.py zipapp container          these; exit status 1 where one lacks its tool
    python tools/packages.py container --base IMAGE    on another image

What is built lies in build/packages: the wheel, vcpuid.pyz, an image's name, vcpuid_VERSION_all.deb. Each is tried as its users have it, in
a folder of its own: it answers about a captured host, and brings the man pages and completions that belong there.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
import zipapp
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from check_dist import CAPTURE, SIZE_LIMIT, project_version, tracked

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "packages"
ARCHIVE = "vcpuid.pyz"
IMAGE = "localhost/vcpuid"
VERSION = project_version(ROOT)
SECONDS = 240
"""How long one command may take: pip alone waits a quarter of an hour for an index that never answers."""
_QUICKLY = ("--quiet", "--disable-pip-version-check")


class LackingError(Exception):
    """A tool, or what it needs, is not to be had here."""


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None, status: int = 0, seconds: float = SECONDS) -> str:
    """Run a command, and return what it prints; raises CalledProcessError, with that, where it ends otherwise than it should or in time."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as started:
        try:
            said, _ = started.communicate(timeout=seconds)
        except BaseException as stopped:
            os.killpg(started.pid, signal.SIGKILL)  # with what it has started itself
            if isinstance(stopped, subprocess.TimeoutExpired):
                raise subprocess.CalledProcessError(-signal.SIGKILL, command, f"stopped: not done after {seconds:g} s") from None
            raise
    if started.returncode != status:
        raise subprocess.CalledProcessError(started.returncode, command, said)
    return said


def tool(name: str) -> str:
    """Find a program, beside this Python or on PATH; raises LackingError."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise LackingError(f"there is no {name}")
    return found


def tried(*vcpuid: str | Path, env: dict[str, str] | None = None, host: str | Path = CAPTURE) -> None:
    """Ask what was built a few things, as its users would."""
    for arguments, status, text in (
        (("version",), 0, f"vcpuid {VERSION}\n"),
        (("names", "avx2"), 0, "avx2"),
        (("explain", "avx512f", "--cpu", "Skylake-Server", "--host", str(host), "--qemu", "11.1"), 1, "avx512f"),
        (("qemu", "models", str(host), "--qemu", "11.1", "-o", "csv"), 0, "EPYC-Milan-v2"),
        (("explain", "--schema"), 0, "json-schema.org"),
        (("collect", "--script"), 0, "SPDX-License-Identifier"),
    ):
        said = run(*vcpuid, *arguments, cwd=Path(tempfile.gettempdir()), env=env, status=status)
        if text not in said or "Traceback (most recent call last)" in said:
            raise AssertionError(f"{arguments}: {said[-1000:]}")


def shared(prefix: Path) -> None:
    """Look whether man pages and completions lie below a prefix."""
    from share import COMPLETIONS

    for place in ("share/man/man1/vcpuid.1", "share/man/man1/vcpuid-qemu-models.1", *COMPLETIONS.values()):
        if not any((prefix / f"{place}{end}").exists() for end in ("", ".gz")):
            raise AssertionError(f"{place} is not installed")


def wheel(work: Path, _base: str) -> Path:
    """Build the wheel, and try it in an environment of its own."""
    made = _wheel()
    if made.stat().st_size > SIZE_LIMIT:
        raise AssertionError(f"the wheel has {made.stat().st_size:,} bytes, more than {SIZE_LIMIT:,}")
    run(sys.executable, "-m", "venv", work / "venv")
    run(work / "venv" / "bin" / "pip", "install", *_QUICKLY, made)
    tried(work / "venv" / "bin" / "vcpuid")
    shared(work / "venv")
    return made


def _wheel() -> Path:
    """Build the wheel, once a run."""
    if not _made:
        for old in OUT.glob("*.whl"):
            old.unlink()
        run(sys.executable, "-m", "build", "--wheel", "--outdir", OUT, ROOT)
        _made.extend(OUT.glob("*.whl"))
    return _made[0]


_made: list[Path] = []


def pipx(work: Path, _base: str) -> Path:
    """Install the wheel by pipx."""
    program, made = tool("pipx"), _wheel()
    places = {"PIPX_HOME": str(work / "pipx"), "PIPX_BIN_DIR": str(work / "bin"), "PIPX_MAN_DIR": str(work / "man")}
    run(program, "install", made, env=places)
    tried(work / "bin" / "vcpuid")
    shared(work / "pipx" / "venvs" / "vcpuid")
    return made


def uvx(work: Path, _base: str) -> Path:
    """Run the wheel by uvx, and install it by uv."""
    program, made = tool("uvx"), _wheel()
    places = {"UV_TOOL_DIR": str(work / "tools"), "UV_TOOL_BIN_DIR": str(work / "bin"), **_for_uv(work)}
    tried(program, "--from", made, "vcpuid", env=places)
    run(tool("uv"), "tool", "install", made, env=places)
    tried(work / "bin" / "vcpuid")
    shared(work / "tools" / "vcpuid")
    return made


def _for_uv(work: Path) -> dict[str, str]:
    """Give uv this Python, a cache of its own, and the package index that pip has been told of: it reads none of pip's files."""
    own = {"UV_CACHE_DIR": str(work / "cache"), "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable}
    if {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & os.environ.keys():
        return own
    done = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True)
    told = os.environ.get("PIP_INDEX_URL") or done.stdout.strip()
    return own | ({"UV_DEFAULT_INDEX": told} if told else {})


def _index_answers(kind: str, work: Path) -> bool:
    """Ask the package index that a kind needs for a package of ours: by what an installer says of a failure one cannot tell whose it is."""
    try:
        if kind == "uvx":
            (work / "wanted.in").write_text("click\n", encoding="utf-8")
            run(tool("uv"), "pip", "compile", "--no-cache", work / "wanted.in", env=_for_uv(work), seconds=60)
        else:
            pip = (sys.executable, "-m", "pip", "download", *_QUICKLY, "--no-cache-dir", "--retries", "0", "--timeout", "30")
            run(*pip, "--no-deps", "--dest", work / "wanted", "click", seconds=60)
    except subprocess.CalledProcessError:
        return False
    return True


def zip_app(work: Path, _base: str) -> Path:
    """Build the one file that has all that vcpuid needs; any Python from 3.11 on runs it. Try it without any package of that Python's."""
    target = _zip_app(work)
    tried(sys.executable, "-I", "-S", target)
    tried(target)
    beside = work / "host.txt.gz"
    shutil.copy(CAPTURE, beside)
    shutil.copy(target, work)
    run(f"./{ARCHIVE}", "check", "qemu64", beside.name, cwd=work)
    run(f"./{ARCHIVE}", "explore", beside.name, "--save", "page.html", cwd=work)
    return target


def _zip_app(work: Path) -> Path:
    folder, target = work / "zipapp", OUT / ARCHIVE
    run(sys.executable, "-m", "pip", "install", *_QUICKLY, "--no-compile", "--target", folder, _wheel())
    for beside in ("bin", "share"):
        shutil.rmtree(folder / beside, ignore_errors=True)
    # Of this Python's release the modules need not be compiled anew at each start; of another one they are.
    checked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(str(folder), quiet=1, legacy=True, stripdir=str(folder), invalidation_mode=checked)
    zipapp.create_archive(folder, target, "/usr/bin/env python3", "vcpuid.__main__:main", compressed=True)
    target.chmod(0o755)
    return target


def container(work: Path, base: str) -> Path:
    """Build an image, and try it."""
    engine = _engine()
    context = work / "context"
    context.mkdir()
    shutil.copy(_zip_app(work), context)
    file = ROOT / "packaging" / "Containerfile"
    on = ("--build-arg", f"BASE={base}") if base else ()
    name = Path(engine).name
    alone = ("--isolation", "chroot") if name == "buildah" else ()
    try:
        run(engine, "build", *alone, *on, "--tag", IMAGE, "--file", file, context)
    except subprocess.CalledProcessError as error:
        lines = str(error.output).strip().splitlines()
        if any("pull" in line or "manifest" in line or "registry" in line or "daemon" in line for line in lines):
            raise LackingError(f"{name} cannot pull the image to build on; --base names another") from None
        raise
    if name == "buildah":
        held = run(engine, "from", IMAGE).split()[-1]
        try:
            run(engine, "copy", held, CAPTURE, "/work/host.txt.gz")
            tried(engine, "run", *alone, held, "--", "/usr/local/bin/vcpuid", host="/work/host.txt.gz")
        finally:
            run(engine, "rm", held)
    else:
        tried(engine, "run", "--rm", "--volume", f"{CAPTURE}:/work/host.txt.gz:ro", IMAGE, host="/work/host.txt.gz")
    (OUT / "image.txt").write_text(f"{IMAGE}\n", encoding="utf-8")
    return OUT / "image.txt"


def _engine() -> str:
    for name in ("buildah", "podman", "docker"):
        if found := shutil.which(name):
            return found
    raise LackingError("there is neither buildah nor podman nor docker")


def deb(work: Path, _base: str) -> Path:
    """Build a package of Debian's with the system's own Python, and try what is in it."""
    program = tool("dpkg-buildpackage")
    source = work / f"vcpuid-{VERSION}"
    for name in tracked(ROOT):
        if not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "packaging" / "debian", source / "debian")
    system = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        run("dpkg-checkbuilddeps", cwd=source, env=system)
    except subprocess.CalledProcessError as error:
        raise LackingError(str(error.output).strip().splitlines()[-1]) from None
    run(program, "--unsigned-source", "--unsigned-changes", "--build=binary", cwd=source, env=system)
    (built,) = work.glob("vcpuid_*_all.deb")
    target = Path(shutil.copy(built, OUT))
    run("dpkg-deb", "--extract", target, work / "root")
    shared(work / "root" / "usr")
    packages = {"PYTHONPATH": str(work / "root" / "usr" / "lib" / "python3" / "dist-packages"), **system}
    tried("/usr/bin/python3", work / "root" / "usr" / "bin" / "vcpuid", env=packages)
    return target


KINDS: dict[str, Callable[[Path, str], Path]] = {
    "wheel": wheel, "pipx": pipx, "uvx": uvx, "zipapp": zip_app, "container": container, "deb": deb,
}  # fmt: skip


def build(kind: str, base: str = "") -> Path:
    """Build one kind, try it, and return where it is; raises LackingError where its tool, or its package index, is not to be had."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"vcpuid-{kind}-") as folder:
        try:
            return KINDS[kind](Path(folder), base)
        except subprocess.CalledProcessError:
            if kind == "deb" or _index_answers(kind, Path(folder)):  # Debian's own packages are all that it is built of
                raise
            raise LackingError("no package index answers") from None


def main(arguments: Sequence[str]) -> int:
    """Build what is asked for; say what came of each."""
    parser = argparse.ArgumentParser(description="Build vcpuid for where people are, and try what was built.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; by default all")
    parser.add_argument("--base", default="", help="the image on which the container is built")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.kinds) - KINDS.keys():
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    failed = False
    for kind in asked.kinds or KINDS:
        try:
            made = build(kind, asked.base)
            print(f"{kind:<10} {made.relative_to(ROOT)} ({made.stat().st_size:,} bytes), tried", flush=True)
        except LackingError as lacking:
            print(f"{kind:<10} passed over: {lacking}", flush=True)
            failed |= bool(asked.kinds)
        except subprocess.CalledProcessError as error:
            print(f"{kind:<10} failed: {' '.join(map(str, error.cmd))}\n{error.output}", flush=True)
            failed = True
        except AssertionError as wrong:
            print(f"{kind:<10} failed: {wrong}", flush=True)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

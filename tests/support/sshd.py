"""A real OpenSSH server on this machine's loopback, with keys and a configuration that last as long as a test."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_SEPARATION = Path("/run/sshd")
"""What a server that root starts wants to be there; the service makes it where there is a service."""

_SERVER = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
MaxStartups 100
"""
_CLIENT = """\
Host *
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
"""


def lack() -> str | None:
    """Say why there can be no server, None where there can."""
    if SSHD is None:
        return "no sshd installed"
    return None if shutil.which("ssh") else "no ssh installed"


@contextmanager
def server(folder: Path, commands: Mapping[str, str]) -> Iterator[str]:
    """Run a server, and give the ssh command that reaches it.

    `commands` has by alias what the server runs there, whatever it is asked for: an account with a program of its own; "" for what it is
    asked for. Every alias has a key.
    """
    assert SSHD is not None
    port = _free_port()
    _key(folder / "host_key")
    public = (folder / "host_key.pub").read_text(encoding="utf-8")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}", encoding="utf-8")
    (folder / "sshd_config").write_text(_SERVER.format(port=port, folder=folder), encoding="utf-8")
    client, allowed = "", ""
    for alias, command in commands.items():
        _key(folder / alias)
        before = 'command="{}" '.format(command.replace('"', '\\"')) if command else ""
        allowed += before + (folder / f"{alias}.pub").read_text(encoding="utf-8")
        client += f"Host {alias}\n  IdentityFile {folder}/{alias}\n"
    (folder / "authorized_keys").write_text(allowed, encoding="utf-8")
    client += _CLIENT.format(port=port, folder=folder, user=getpass.getuser())
    (folder / "ssh_config").write_text(client, encoding="utf-8")
    made = os.getuid() == 0 and not _SEPARATION.exists()
    if made:
        _SEPARATION.mkdir(mode=0o755)
    log = (folder / "log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=log)
    try:
        _wait(process, port, folder / "log")
        yield f"ssh -F {folder}/ssh_config"
    finally:
        process.terminate()
        process.wait()
        log.close()
        if made:
            _SEPARATION.rmdir()


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(log.read_text(encoding="utf-8"))
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"sshd does not listen: {log.read_text(encoding='utf-8')}")

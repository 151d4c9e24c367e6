"""Ask Ansible what it makes of inventories: groups and variables (`ansible-inventory --list`), and what it gives to ssh for each host.

    python oracle/ansible_capture.py FOLDER-OF-ANSIBLE'S-PROGRAMS tests/captures/ansible/*.ini

Each capture is written beside its inventory, as NAME@RELEASE.json.gz. Ansible is the Python package ansible-core; it is given a script in
ssh's place, and reaches nobody.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_SSH = """\
#!{python}
import json, os, sys
line = (json.dumps(sys.argv[1:]) + "\\n").encode()
os.write(os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), line)
sys.exit(255)
"""


def _run(command: list[str], **env: str) -> str:
    return subprocess.run(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True).stdout


def asked_of_ssh(programs: Path, inventory: Path) -> list[dict[str, str]]:
    """Return the user, port and host that Ansible asks ssh for, of every host, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        log, ssh = Path(folder, "log"), Path(folder, "ssh")
        ssh.write_text(_SSH.format(python=sys.executable, log=str(log)), encoding="utf-8")
        ssh.chmod(0o755)
        env = {"ANSIBLE_SSH_EXECUTABLE": str(ssh), "ANSIBLE_HOME": folder, "ANSIBLE_SSH_TRANSFER_METHOD": "piped"}
        _run([str(programs / "ansible"), "all", "-i", str(inventory), "-m", "ansible.builtin.raw", "-a", "true"], **env)
        rows = []
        for line in log.read_text(encoding="utf-8").splitlines():
            *options, host, _ = json.loads(line)
            given = dict(option.split("=", 1) for option in options if "=" in option)
            row = {"host": host, "user": given.get("User", "").strip('"'), "port": given.get("Port", "")}
            if row not in rows:
                rows.append(row)
        return sorted(rows, key=lambda row: (row["host"], row["user"], row["port"]))


def main() -> int:
    """Write the captures of the inventories that are named."""
    programs, *inventories = map(Path, sys.argv[1:])
    release = re.search(r"core ([0-9]+\.[0-9]+\.[0-9]+)", _run([str(programs / "ansible"), "--version"]))
    assert release is not None
    for inventory in inventories:
        told = {
            "ansible-core": release[1],
            "list": json.loads(_run([str(programs / "ansible-inventory"), "-i", str(inventory), "--list"])),
            "ssh": asked_of_ssh(programs, inventory),
        }
        path = inventory.with_name(f"{inventory.stem}@{release[1]}.json.gz")
        path.write_bytes(gzip.compress((json.dumps(told, indent=1) + "\n").encode(), 9, mtime=0))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""libvirt's part of the path: what it makes of a host and of a domain's <cpu>, and in which words it refuses."""

from vcpuid.errors import LibvirtError
from vcpuid.libvirt.ask import ask, connect
from vcpuid.libvirt.daemon import Libvirt
from vcpuid.libvirt.journal import Journal, Ruling

__all__ = ["Journal", "Libvirt", "LibvirtError", "Ruling", "ask", "connect"]

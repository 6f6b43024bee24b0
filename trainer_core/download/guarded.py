"""gallery-dl in a process that can neither reach a private network nor start a program.

Run as a file, by `gallery`: `python guarded.py public ARGUMENTS…`, or `any` in the place of `public` for tests. A site
may answer with a redirect, or a name may be looked up anew, so each connection is checked when it is made."""

import ipaddress
import runpy
import sys


def forbid(is_public_only: bool) -> None:
    """From now on refuse other programs in this process, and with `is_public_only` connections that are not public."""

    def watch(event: str, arguments: tuple) -> None:
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile"):
            raise PermissionError(f"{event} is not for a download")
        if event == "socket.connect" and is_public_only and not _is_public(arguments[1]):
            raise PermissionError(f"{arguments[1]} is no public address")

    sys.addaudithook(watch)


def _is_public(address: object) -> bool:
    if not isinstance(address, tuple):  # a socket in the file system
        return False
    try:
        number = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:  # a name, which is looked up only after this check
        return False
    number = getattr(number, "ipv4_mapped", None) or number
    return number.is_global and not number.is_multicast


if __name__ == "__main__":
    sys.path.pop(0)  # our own folder, whose files are no packages
    forbid(sys.argv.pop(1) == "public")
    sys.argv[0] = "gallery-dl"
    runpy.run_module("gallery_dl", run_name="__main__", alter_sys=False)

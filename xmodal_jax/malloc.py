"""Which memory allocator a process computes with on the CPU, chosen by starting it anew, once, before anything is loaded.

XLA takes large buffers at each step and gives them back. As glibc is set by default, its allocator hands them back to the
kernel, and every page of 4 KiB is fetched and zeroed again when it is next touched: 160,000 page faults a training step of a
ViT-S, a fifth of its time. An allocator that asks for huge pages of 2 MiB, or that keeps what it was given back, has 1,000.
"""

import glob
import os
import platform
import re
import sys
import sysconfig

TUNABLES = "GLIBC_TUNABLES"
HUGE = "glibc.malloc.hugetlb=1"  # since glibc 2.35: buffers are advised to be of huge pages
TCMALLOC = "libtcmalloc_minimal.so.4"
REPORTS = "TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD"  # bytes; else it tells stderr of every buffer above 1 GiB
SETTING = "XMODAL_MALLOC"  # "keep": the allocator stays as it is
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/accel[0-9]*", "/dev/vfio/[0-9]*", "/dev/kfd")


def restart():
    """Start this command anew with a faster allocator, where that is of use; then this process does not go on here.

    It keeps its number, so signals, exit status and whoever waits for it are as before.
    """
    chosen = choose(os.environ)
    if not (chosen and is_own_command()):
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **chosen})
    except OSError:  # too many arguments and the like: it goes on as it is
        return


def choose(environ):
    """What to set in the environment, a dictionary, empty where the allocator is to stay as it is."""
    preloaded = environ.get("LD_PRELOAD", "")
    is_chosen = environ.get(SETTING) or TUNABLES in environ or "alloc" in preloaded
    if is_chosen or sys.platform != "linux" or computes_elsewhere(environ):
        return {}
    if tcmalloc := find_tcmalloc():
        preload = f"{tcmalloc}:{preloaded}" if preloaded else tcmalloc
        return {SETTING: "tcmalloc", "LD_PRELOAD": preload, REPORTS: str(1 << 60)}
    if glibc() >= (2, 35) and huge_pages() == "madvise":  # with "always" there is nothing to ask for
        return {SETTING: "hugetlb", TUNABLES: HUGE}
    return {}


def as_before(environ):
    """The environment without what `restart` set in it."""
    chosen = environ.get(SETTING, "keep")
    if chosen == "keep":
        return dict(environ)
    rest = {name: value for name, value in environ.items() if name not in (SETTING, TUNABLES, REPORTS)}
    if chosen == "tcmalloc":
        preloaded = rest.pop("LD_PRELOAD", "").partition(":")[2]
        rest |= {"LD_PRELOAD": preloaded} if preloaded else {}
    return rest


def find_tcmalloc():
    """The path of gperftools' allocator where it is installed (Debian: libtcmalloc-minimal4), or None."""
    own = os.path.join(sys.prefix, "lib")  # of a conda environment
    folders = [own, f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}", "/usr/lib64", "/usr/lib"]
    paths = (os.path.join(folder, TCMALLOC) for folder in folders)
    return next(filter(os.path.exists, paths), None)


def computes_elsewhere(environ):
    """Whether JAX will find another platform than the CPU; asked without loading it."""
    platforms = environ.get("JAX_PLATFORMS", "")
    return platforms != "cpu" if platforms else any(glob.glob(pattern) for pattern in ACCELERATORS)


def glibc():
    """(major, minor) of the C library, (0, 0) where it is another one."""
    try:
        return tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")[:2]))
    except (ValueError, OSError, AttributeError, IndexError):
        return 0, 0


def huge_pages():
    """The kernel's "always", "madvise" (where a program asks) or "never"."""
    try:
        with open(HUGE_PAGES, encoding="ascii") as file:
            return re.search(r"\[(\w+)\]", file.read()).group(1)
    except (OSError, AttributeError):
        return "never"


def is_own_command():
    """Whether the interpreter was started for this command, and not for a notebook or a test that runs it inside."""
    arguments = sys.argv[1:]
    given = len(sys.orig_argv) - len(arguments)
    return (
        "jax" not in sys.modules
        and sys.orig_argv[given:] == arguments
        and any("xmodal" in part for part in sys.orig_argv[1:given])
    )


def in_use():
    """Name of the allocator of this process, for people."""
    if sys.platform != "linux":
        return f"that of {platform.system()}"
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        found = re.search(r"/(?:lib)?(\w*(?:tc|je|mi)malloc\w*)\.so", file.read())
    if found:
        return found.group(1)
    name = f"glibc {'.'.join(map(str, glibc()))}" if glibc() > (0, 0) else "the C library's"
    return f"{name}, huge pages" if HUGE in os.environ.get(TUNABLES, "") else name

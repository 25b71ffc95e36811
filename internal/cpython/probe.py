# Prints what this Python is, as JSON after a marker line. discover.go runs it
# with -I -S -c and the marker as its argument.
#
# It keeps to the syntax of Python 2.6, so that a Python too old to be used can
# say so, and it reaches every attribute that some Python lacks by getattr.

import json
import os
import sys


def name(value):
    # A file name is bytes that need not be text. JSON carries text alone, so
    # each byte crosses as the character of its number.
    if value is None:
        return ""
    if not isinstance(value, bytes):
        value = os.fsencode(value)
    return value.decode("latin-1")


def names(values):
    return [name(v) for v in values if isinstance(v, (bytes, type("")))]


def loaded_library():
    # Where the running code of Python comes from. A Python whose interpreter
    # holds that code itself answers with the interpreter.
    try:
        import ctypes

        class Info(ctypes.Structure):
            _fields_ = [
                ("file", ctypes.c_char_p),
                ("base", ctypes.c_void_p),
                ("symbol", ctypes.c_char_p),
                ("address", ctypes.c_void_p),
            ]

        dladdr = ctypes.CDLL(None).dladdr
        dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(Info)]
        info = Info()
        address = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p)
        if not dladdr(address, ctypes.byref(info)) or not info.file:
            return ""
        file = os.path.abspath(info.file)
        for own in ("/proc/self/exe", sys.executable):
            if own and os.path.exists(own) and os.path.samefile(own, file):
                return ""
        return name(file)
    except Exception:
        return ""  # no ctypes, no dladdr, or the name of the program alone


def config_vars():
    try:
        import sysconfig

        return sysconfig.get_config_vars()
    except Exception:
        return {}  # a minimal package without the build's configuration


def describe():
    config = config_vars()
    report = {
        "base_executable": name(getattr(sys, "_base_executable", "")),
        "base_prefix": name(getattr(sys, "base_prefix", sys.prefix)),
        "base_exec_prefix": name(getattr(sys, "base_exec_prefix", sys.exec_prefix)),
        "debug": hasattr(sys, "gettotalrefcount"),
        "free_threaded": bool(config.get("Py_GIL_DISABLED"))
        or "t" in getattr(sys, "abiflags", ""),
        "object_size": getattr(object, "__basicsize__", 0),
        "stdlib_path": names(sys.path),  # -S: nothing else is there yet
        "loaded": loaded_library(),
        "instsoname": name(config.get("INSTSONAME")),
        "ldlibrary": name(config.get("LDLIBRARY")),
        "libdir": name(config.get("LIBDIR")),
        "libpl": name(config.get("LIBPL")),
        "multiarch": name(
            config.get("MULTIARCH")
            or getattr(getattr(sys, "implementation", None), "_multiarch", "")
        ),
        "framework": name(config.get("PYTHONFRAMEWORK")),
        "framework_prefix": name(config.get("PYTHONFRAMEWORKPREFIX")),
    }

    # What the interpreter does at its start when there is no -S: it enters a
    # virtual environment, reads .pth files, runs sitecustomize.
    import site

    site.main()
    report["prefix"] = name(sys.prefix)
    report["exec_prefix"] = name(sys.exec_prefix)
    report["path"] = names(sys.path)
    report["site_dirs"] = [
        name(d) for d in site.getsitepackages() if os.path.isdir(d)
    ]
    return report


report = {
    "version": sys.version,
    "implementation": "pypy" if "__pypy__" in sys.builtin_module_names else "cpython",
    "executable": name(sys.executable),
}
if hasattr(sys, "implementation"):
    report["implementation"] = sys.implementation.name
try:
    report.update(describe())
except Exception:
    import traceback

    report["error"] = traceback.format_exc()

# Straight to the descriptor, whatever a site hook made of sys.stdout, and then
# out at once: nothing that a hook registered for the end has to run.
sys.stdout.flush()
data = ("\n%s\n%s\n" % (sys.argv[1], json.dumps(report))).encode("ascii")
while data:
    data = data[os.write(1, data):]
os._exit(0)

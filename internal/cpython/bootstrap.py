"""Prepares an interpreter for its application, loads it, and cleans up.

The C side runs this file in a namespace of its own in every interpreter and
calls prepare, base_environ and load_application at its start, format_exception
for each error and finish at its end. It imports only what every start-up has
loaded anyway, since each interpreter pays for it.
"""

import os
import sys


class LoadError(Exception):
    """The application can't be loaded; the message says all there is to say."""


class Settings:
    """What Go passes, as a flat list of keys and values; a key may repeat."""

    def __init__(self, strings):
        self._values = {}
        for key, value in zip(strings[::2], strings[1::2]):
            self._values.setdefault(key, []).append(value)

    def __getitem__(self, key):
        return self._values.get(key, [""])[0]

    def all(self, key):
        return self._values.get(key, [])


def prepare(strings, refusals):
    settings = Settings(strings)
    if settings["host"]:
        _join_host(settings)
    else:
        _replace_environment(settings.all("environ"), settings.all("with_env"))
        _enter_prefix(settings)
        sys.argv = [settings["argv"]]
        _buffer_lines()
    if settings["isolation"] != "Main":
        _wrap_posix("fork", _refuse_fork)
        _wrap_posix("forkpty", _refuse_fork)
    if settings["isolation"] == "OwnGIL":
        _refuse_single_phase_modules()
    if settings["isolation"] != "Main":
        _watch_extension_modules(refusals)
    _ignore_signal_handlers()
    _set_path(settings)
    import threading  # noqa: F401  here, so that this worker is its main thread

    return settings


def _replace_environment(snapshot, additions):
    """Gives the interpreter an os.environ of its own.

    The C environment belongs to the whole process: what one application wrote
    there, the next one would start with, and a write races every getenv in Go
    and C. So assignments stay in os.environ, and children get that.
    """

    def keep(*_):
        pass

    def update(items):
        for item in items:
            key, _, value = item.partition("=")
            data[os.environ.encodekey(key)] = os.environ.encodevalue(value)

    data = os.environ._data
    added = getattr(os.putenv, "added", None)
    if added is not None:  # the main interpreter, which has an application already
        _refuse_conflicts(added, additions)
        update(additions)
        return
    data.clear()
    update(snapshot)
    update(additions)
    keep.added = dict(item.partition("=")[::2] for item in additions)
    os.putenv = os.unsetenv = keep
    _give_children_the_environment()


def _give_children_the_environment():
    """Where a call names no environment for a child, that would get the C one.
    From 3.13 on subprocess prefers posix_spawn, where that can close
    descriptors. What else os and multiprocessing have is built on these."""
    _wrap_posix("posix_spawn", _with_environ)
    _wrap_posix("posix_spawnp", _with_environ)
    _wrap_posix("execv", _exec_with_environ)
    _wrap_posix("system", _system_with_environ)
    try:
        import _posixsubprocess
    except ImportError:
        return
    fork_exec = _posixsubprocess.fork_exec

    def fork_exec_with_environ(*args):
        if len(args) > 5 and args[5] is None:
            env = [key + b"=" + value for key, value in os.environ._data.items()]
            args = (*args[:5], env, *args[6:])
        return fork_exec(*args)

    fork_exec_with_environ.__wrapped__ = fork_exec
    _posixsubprocess.fork_exec = fork_exec_with_environ


def _wrap_posix(name, wrap):
    import posix

    function = getattr(posix, name, None)
    if function is not None:
        wrapped = wrap(function)
        wrapped.__name__ = wrapped.__qualname__ = name
        wrapped.__doc__ = function.__doc__
        wrapped.__wrapped__ = function
        setattr(posix, name, wrapped)
        setattr(os, name, wrapped)


def _with_environ(spawn):
    def spawn_with_environ(path, argv, env=None, /, **options):
        return spawn(path, argv, os.environ if env is None else env, **options)

    return spawn_with_environ


def _exec_with_environ(execv):
    execve = os.execve

    def exec_with_environ(path, argv, /):
        return execve(path, argv, os.environ)

    return exec_with_environ


def _system_with_environ(system):
    def system_with_environ(command):
        import subprocess

        sys.audit("os.system", command)
        code = subprocess.call(["/bin/sh", "-c", command], close_fds=False)
        return code << 8 if code >= 0 else -code  # as wait(2) has it

    return system_with_environ


def _refuse_fork(fork):
    """In a sub-interpreter's child CPython ends the process: it looks for the
    main interpreter, which isn't running. Not all versions and modes refuse."""

    def refuse():
        raise RuntimeError(
            f"os.{fork.__name__} is refused in a sub-interpreter: use subprocess, or "
            'multiprocessing and its executors with multiprocessing.get_context("spawn")'
        )

    return refuse


def _refuse_single_phase_modules():
    """Refuses what CPython will refuse, in its words, but without a trace.

    CPython finds out that an extension module is of the old kind, which an
    interpreter with its own GIL can't have, by running its initialisation. Some,
    as psycopg2's, have all they need only when that runs for the first time: they
    would then be lost for the main interpreter as well.
    """
    import _imp

    create_dynamic = _imp.create_dynamic

    def create(spec, *args):
        try:
            with open(spec.origin, "rb") as file:
                data = file.read()
        except OSError:
            data = b""  # for CPython to complain of
        # Each kind has to call one of these two, so its name is in the file.
        if b"PyModule_Create2" in data and b"PyModuleDef_Init" not in data:
            raise ImportError(
                f"module {spec.name} does not support loading in subinterpreters",
                name=spec.name,
                path=spec.origin,
            )
        del data
        return create_dynamic(spec, *args)

    _imp.create_dynamic = _in_place_of(create_dynamic, create)


def _watch_extension_modules(refusals):
    """Tells Go of each extension module that refuses a sub-interpreter: what
    imports one may well go on without it, and then nobody would know. All
    imports come through these functions."""
    import _imp

    told = {"_suggestions"}  # of no consequence: traceback has the same in Python

    def watch(load):
        def watched(module, *file):
            try:
                return load(module, *file)
            except ImportError as error:
                # A module, or the spec of one.
                name = getattr(module, "__name__", None) or getattr(module, "name", None)
                if isinstance(name, str) and name not in told and _is_refusal(str(error)):
                    told.add(name)
                    refusals.add(name)
                raise

        return _in_place_of(load, watched)

    for name in ("create_builtin", "create_dynamic", "exec_dynamic"):
        load = getattr(_imp, name, None)
        if load is not None:
            setattr(_imp, name, watch(load))


def _in_place_of(load, wrapper):
    """Makes a wrapper look like the function of _imp that it wraps. Where an import
    fails, CPython takes the frames of its own import system out of the traceback,
    which it knows by these names of file and function: it is to be one of them."""
    wrapper.__code__ = wrapper.__code__.replace(
        co_filename="<frozen importlib._bootstrap_external>",
        co_name="_call_with_frames_removed",
    )
    wrapper.__name__ = wrapper.__qualname__ = load.__name__
    wrapper.__module__ = load.__module__
    wrapper.__doc__ = load.__doc__
    wrapper.__wrapped__ = load
    return wrapper


def _is_refusal(text):
    """CPython has no exception of its own for that, and before it had a way to
    refuse at all, NumPy, Cython and PyO3 each found one."""
    return (
        "subinterpreter" in text
        or "more than once per process" in text
        or "one interpreter per process" in text
        or "once per interpreter process" in text
    )


def _refuse_conflicts(added, additions):
    for item in additions:
        key, _, value = item.partition("=")
        if added.setdefault(key, value) != value:
            raise LoadError(
                f"WithEnv: {key}={value} conflicts with {key}={added[key]} of another application "
                "in the main interpreter: give each an interpreter of its own (OwnGIL or SharedGIL)"
            )


def _join_host(settings):
    """Prepares the main interpreter of a host program that had one before. It
    stays the host's: its os.environ and sys.path gain what was asked for, and
    sys.prefix, sys.argv and the streams stay as they are."""
    for item in settings.all("with_env"):
        key, _, value = item.partition("=")
        if os.environ.setdefault(key, value) != value:
            raise LoadError(
                f"WithEnv: {key}={value} conflicts with {key}={os.environ[key]} in the host "
                "program's interpreter: give the application one of its own (OwnGIL or SharedGIL)"
            )
    if sys.prefix != settings["prefix"]:
        import site

        for directory in settings.all("site_dir"):
            site.addsitedir(directory)


def _enter_prefix(settings):
    """Makes this interpreter the chosen Python, where another one started the
    process: libpython is one, but each application may have its own venv."""
    executable = settings["executable"]
    if sys.executable == executable and sys.prefix == settings["prefix"]:
        return
    sys.executable = executable
    sys._base_executable = settings["base_executable"]
    sys.prefix = settings["prefix"]
    sys.exec_prefix = settings["exec_prefix"]
    # What the other Python's site directories have brought in goes again.
    python_path = settings.all("python_path")
    sys.path[:] = python_path + settings.all("stdlib_path")
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if getattr(finder, "__module__", "").startswith("_frozen_importlib")
    ]
    sys.path_importer_cache.clear()
    import site

    site.PREFIXES[:] = [sys.prefix, sys.exec_prefix]
    known = set()
    for directory in settings.all("site_dir"):
        known = site.addsitedir(directory, known)
    _customize(site)


def _customize(site):
    """Runs this Python's sitecustomize, unless it is the other one's too."""
    import importlib.machinery

    spec = importlib.machinery.PathFinder.find_spec("sitecustomize")
    loaded = sys.modules.get("sitecustomize")
    if spec is not None and getattr(loaded, "__file__", None) != spec.origin:
        sys.modules.pop("sitecustomize", None)
        site.execsitecustomize()


def _set_path(settings):
    """Puts the application's directories first on sys.path."""
    import _imp

    first = []
    for directory in settings.all("path"):
        if directory not in first:
            first.append(directory)
    # Applications of the main interpreter may start at the same time, and none may
    # lose what another has put there.
    _imp.acquire_lock()
    try:
        sys.path[:] = first + [p for p in sys.path if p not in first and p != ""]
    finally:
        _imp.release_lock()


def _buffer_lines():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.reconfigure(line_buffering=True)
        except (AttributeError, ValueError, OSError):
            pass  # no such stream, or one of somebody else's


def _ignore_signal_handlers():
    """Lets libraries that install signal handlers at import load: signals are
    the Go program's, and Python would refuse with ValueError here."""
    import _signal

    install = _signal.signal
    if hasattr(install, "__wrapped__"):
        return

    def signal(signalnum, handler):
        try:
            return install(signalnum, handler)
        except ValueError:
            if not 0 < int(signalnum) < _signal.NSIG:
                raise
            import warnings

            warnings.warn(
                f"signal.signal({int(signalnum)}, ...) is ignored: "
                "signals belong to the Go program that runs this application",
                RuntimeWarning,
                stacklevel=3,
            )
            return _signal.getsignal(signalnum)

    signal.__wrapped__ = install
    _signal.signal = signal
    loaded = sys.modules.get("signal")
    if loaded is not None and hasattr(loaded, "_signal"):
        loaded._signal.signal = signal


def base_environ(settings):
    return {
        "wsgi.version": (1, 0),
        "wsgi.multithread": bool(settings["multithread"]),
        "wsgi.multiprocess": bool(settings["multiprocess"]),
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


# ---- The application ---------------------------------------------------------


def load_application(settings):
    module_name, expression = settings["module"], settings["callable"]
    module = _load_module(module_name, settings["module_file"], settings.all("path"))
    path, call = expression, False
    if path.endswith("()"):
        path, call = path[:-2], True
    value, walked = module, module_name
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise LoadError(
                f"{walked} has no attribute {name!r}" + _suggestion(value, name)
            ) from None
        walked += "." + name
    if call:
        if not callable(value):
            raise LoadError(f"{walked} is not callable: it is {_describe(value)}")
        value = value()
        walked += "()"
    if not callable(value):
        raise LoadError(f"{walked} is not a WSGI application: it is {_describe(value)}, not callable")
    target = value if hasattr(value, "__code__") else getattr(type(value), "__call__", None)
    code = getattr(target, "__code__", None)
    if code is not None and code.co_flags & 0x280:  # CO_COROUTINE, CO_ASYNC_GENERATOR
        raise LoadError(f"{walked} is asynchronous: an ASGI application can't be served as WSGI")
    return value


def _load_module(name, file, path):
    if not file:
        import importlib

        _refuse_other_module(name.partition(".")[0], path)
        return importlib.import_module(name)
    import importlib.machinery
    import importlib.util

    stem = os.path.basename(file)
    for suffix in (".py", ".wsgi"):
        if stem.endswith(suffix):
            stem = stem[: -len(suffix)]
    stem = "".join(c if c.isalnum() or c == "_" else "_" for c in stem)
    if not stem or stem[0].isdigit():
        stem = "_" + stem
    loaded = sys.modules.get(stem)
    if loaded is not None and getattr(loaded, "__file__", None) == file:
        return loaded
    if loaded is not None or stem in sys.builtin_module_names:
        stem = "_wsgi_" + stem
    loader = importlib.machinery.SourceFileLoader(stem, file)
    spec = importlib.util.spec_from_file_location(stem, file, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(stem, None)
        raise
    return module


def _refuse_other_module(name, path):
    """Two applications in the main interpreter may not mean two modules by one
    name: the second would run the first one's code."""
    loaded = sys.modules.get(name)
    if loaded is None:
        return
    import importlib.machinery

    spec = importlib.machinery.PathFinder.find_spec(name, path)
    origin = getattr(getattr(loaded, "__spec__", None), "origin", None)
    if spec is not None and spec.origin is not None and spec.origin != origin:
        raise LoadError(
            f"the module {name} is loaded from {origin} and can't be loaded from {spec.origin} "
            "as well: all applications in the main interpreter share its modules; give each "
            "an interpreter of its own (OwnGIL or SharedGIL)"
        )


def _describe(value):
    return "None" if value is None else f"a {type(value).__name__}"


def _suggestion(value, name):
    public = [n for n in getattr(value, "__dict__", {}) if not n.startswith("_")]
    close = [n for n in public if n.lower() == name.lower()]
    close += [n for n in ("application", "app", "create_app") if n in public and n not in close]
    if not close:
        return ""
    return "; it has " + ", ".join(close)


# ---- Errors ------------------------------------------------------------------


def format_exception(kind, value, trace):
    """The text of an exception, without this library's own frames."""
    if kind is LoadError:
        return str(value)
    import traceback

    while trace is not None and trace.tb_frame.f_code.co_filename == "<wsgi>":
        trace = trace.tb_next
    try:
        lines = traceback.format_exception(kind, value, trace)
    except Exception:
        # Its own methods fail: where it was raised, and its type, still tell.
        lines = ["Traceback (most recent call last):\n", *traceback.format_tb(trace), f"{kind!r}"]
    return "".join(lines).rstrip("\n").replace("\0", "\\x00")  # a C string ends at NUL


# ---- The end -----------------------------------------------------------------

THREAD_SECONDS = 5


def finish(run_exit_handlers):
    """Does what Python does at a program's end. Returns the reason why the
    interpreter can't be destroyed, or an empty string."""
    remaining = ""
    if run_exit_handlers:
        remaining = _end_threads()
        import atexit

        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    return remaining


def _end_threads():
    import threading

    def started():
        """The threads that Python code has started, and that still run. The
        worker that runs this is none of them, nor is what threading takes for
        the main thread: in a sub-interpreter that is the process's."""
        return [
            thread
            for thread in threading.enumerate()
            if thread is not threading.main_thread()
            and thread is not threading.current_thread()
            and not isinstance(thread, threading._DummyThread)
            and thread.name != closer_name
        ]

    def close():
        # Executors wait for their threads here; it may take for ever.
        for handler in reversed(getattr(threading, "_threading_atexits", [])):
            handler()
        for thread in started():
            if not thread.daemon:
                thread.join()

    closer_name = "wsgi-close"
    if not started() and not getattr(threading, "_threading_atexits", None):
        return ""
    executors = _executors()
    closer = threading.Thread(target=close, name=closer_name, daemon=True)
    closer.start()
    closer.join(THREAD_SECONDS)
    _reopen(executors)
    left = sorted(thread.name for thread in started())
    if closer.is_alive() and not left:
        left = ["an executor's"]
    return "threads still run: " + ", ".join(left) if left else ""


def _executors():
    """The ThreadPoolExecutors that have threads."""
    futures = sys.modules.get("concurrent.futures.thread")
    found = []
    for thread in list(getattr(futures, "_threads_queues", ())):
        # A worker thread's first argument is a weak reference to its executor.
        arguments = getattr(thread, "_args", None)
        executor = arguments[0]() if arguments and callable(arguments[0]) else None
        if executor is not None and not executor._shutdown and executor not in found:
            found.append(executor)
    return found


def _reopen(executors):
    """Lets executors work again. At a program's end they refuse all work from
    then on, but the main interpreter does not end with an application: another
    may come, and find the same modules."""
    processes = sys.modules.get("concurrent.futures.process")
    if processes is not None:
        processes._global_shutdown = False
    futures = sys.modules.get("concurrent.futures.thread")
    if futures is None:
        return
    futures._shutdown = False
    import threading

    for executor in executors:
        executor._threads.clear()
        executor._idle_semaphore = threading.Semaphore(0)
        executor._shutdown = False

package wsgi_test

import (
	"strings"
	"testing"

	"github.com/seed-a2d07992/wsgi"
)

// standardLibrary answers each path with what the function of that name
// returns, which is True where the part of the standard library works.
const standardLibrary = `
import traceback

def square(x):
    return x * x

def put_square(queue, x):
    queue.put(square(x))

def subprocesses():
    import subprocess, sys
    done = subprocess.run([sys.executable, "-c", "import sys; print(sys.stdin.read().upper(), file=sys.stderr); sys.exit(3)"],
                          input="text", text=True, capture_output=True)
    try:
        subprocess.run(["sleep", "60"], timeout=0.01)
        timeout = False
    except subprocess.TimeoutExpired:
        timeout = True
    return done.returncode == 3 and done.stderr == "TEXT\n" and timeout

def threads():
    import contextvars, queue, threading
    variable = contextvars.ContextVar("variable", default=1)
    variable.set(2)
    local, results, barrier = threading.local(), queue.Queue(), threading.Barrier(4)
    def work(n):
        local.n = n
        barrier.wait()
        results.put(local.n)
    started = [threading.Thread(target=work, args=(n,), daemon=n % 2 == 0) for n in range(4)]
    for thread in started: thread.start()
    for thread in started: thread.join()
    return sorted(results.get() for _ in started) == [0, 1, 2, 3] and variable.get() == 2

def thread_pools():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]

def process_pools():
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]

def processes():
    import multiprocessing, sys
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=put_square, args=(queue, 12))
    process.start()
    result = queue.get()
    process.join()
    return result == 144 and process.exitcode == 0

def log_configuration():
    import io, logging, logging.config
    stream = io.StringIO()
    logging.config.dictConfig({
        "version": 1, "disable_existing_loggers": False,
        "formatters": {"f": {"format": "%(levelname)s:%(message)s"}},
        "handlers": {"h": {"class": "logging.StreamHandler", "stream": stream, "formatter": "f"}},
        "loggers": {"standard": {"handlers": ["h"], "level": "INFO", "propagate": False}},
    })
    logging.getLogger("standard.part").info("seen")
    logging.getLogger("standard.part").debug("not seen")
    return stream.getvalue() == "INFO:seen\n"

def warning_filters():
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            warnings.warn("raised")
        except UserWarning:
            return True

def event_loops():
    import asyncio, sys
    async def child():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6 * 7)", stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return int(out)
    async def serve():
        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"over TCP\n")
            line = await reader.readline()
            writer.close()
        return line
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(child(), serve(), loop.run_in_executor(None, square, 3))
    return asyncio.run(main()) == [42, b"over TCP\n", 9]

def databases():
    import sqlite3, tempfile, os
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(os.path.join(folder, "db"))
        db.create_function("square", 1, square)
        with db:
            db.execute("create table t (x)")
            db.executemany("insert into t values (?)", [(1,), (2,), (3,)])
        total = db.execute("select sum(square(x)) from t").fetchone()
        db.close()
    return total == (14,)

def time_zones():
    import datetime, zoneinfo
    time = datetime.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    return time.utcoffset() == datetime.timedelta(hours=2) and time.strftime("%Z") == "CEST" and \
        datetime.datetime.strptime("2026-07-01", "%Y-%m-%d").year == 2026

def decimals():
    import decimal, fractions
    with decimal.localcontext() as context:
        context.prec = 30
        third = decimal.Decimal(1) / 3
    return str(third) == "0." + 30 * "3" and decimal.getcontext().prec == 28 and fractions.Fraction("0.5") == 0.5

def foreign_functions():
    import ctypes
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))(lambda a, b: a[0] - b[0])
    numbers = (ctypes.c_int * 4)(3, 1, 4, 2)
    ctypes.CDLL(None).qsort(numbers, 4, ctypes.sizeof(ctypes.c_int), compare)
    return list(numbers) == [1, 2, 3, 4]

def extension_modules():
    import array, bz2, csv, hashlib, hmac, json, lzma, mmap, pickle, random, secrets, select, socket, ssl, \
        struct, tempfile, unicodedata, uuid, xml.etree.ElementTree, zlib
    return ssl.create_default_context().check_hostname and uuid.uuid4() != uuid.uuid4() and \
        hashlib.sha256(b"").hexdigest()[:4] == "e3b0" and unicodedata.name("\u00e9").endswith("ACUTE") and \
        xml.etree.ElementTree.fromstring("<a>b</a>").text == "b" and lzma.decompress(lzma.compress(b"x")) == b"x"

def application(environ, start_response):
    try:
        result = globals()[environ["PATH_INFO"][1:]]()
    except BaseException:
        result = traceback.format_exc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(result).encode()]
`

// TestStandardLibrary uses what applications use of it, in a view.
func TestStandardLibrary(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		s := serve(t, standardLibrary, wsgi.WithIsolation(mode))
		t.Run("parts", func(t *testing.T) { // returns when they all have
			for _, name := range []string{
				"subprocesses", "threads", "thread_pools", "process_pools", "processes", "log_configuration",
				"warning_filters", "event_loops", "databases", "time_zones", "decimals", "foreign_functions",
				"extension_modules",
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s.expectBody(t, "/"+name, "True")
				})
			}
		})
		s.Logs.expectQuiet(t)
	})
}

// TestProcessPoolsAfterAnApplication: the main interpreter keeps its modules for
// the next application, which must find none of them shut down.
func TestProcessPoolsAfterAnApplication(t *testing.T) {
	for range 2 {
		app, _, _ := startApp(t, standardLibrary, append(oneWorker, wsgi.WithIsolation(wsgi.Main))...)
		if _, body := record(t, app, "GET", "/process_pools", nil); body != "True" {
			t.Error(body)
		}
		shutdown(t, app)
	}
}

// TestForkIsRefusedInSubinterpreters, by itself and where multiprocessing
// starts its processes so.
func TestForkIsRefusedInSubinterpreters(t *testing.T) {
	isolations(t, func(t *testing.T, mode wsgi.Isolation) {
		if mode == wsgi.Main {
			return
		}
		s := serve(t, `
import concurrent.futures, multiprocessing, os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        if environ["PATH_INFO"] == "/os":
            os.fork()
        else:
            with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                pool.submit(abs, -1).result()
    except RuntimeError as error:
        return [str(error).encode()]
    return [b"not refused"]
`, append(oneWorker, wsgi.WithIsolation(mode))...)
		for _, path := range []string{"/os", "/pool"} {
			_, body := s.get(t, path)
			for _, want := range []string{"os.fork is refused", "subprocess", `multiprocessing.get_context("spawn")`} {
				if !strings.Contains(body, want) {
					t.Errorf("%s: %q doesn't say %q", path, body, want)
				}
			}
		}
	})
}

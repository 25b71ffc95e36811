//go:build cgo && !windows

/* The process's Python: started once, on a thread of its own, and never ended. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "interpreter.h"

enum { STACK_SIZE = 16 << 20, HOST_GIL_SECONDS = 5 };

pthread_mutex_t wsgi_lifecycle = PTHREAD_MUTEX_INITIALIZER;

/* A write to a closed pipe or socket on a thread that Go does not know kills a
 * Go process, unless there was a handler before Go's: then Go passes it on. A
 * handler is not inherited by child processes, as ignoring the signal or
 * blocking it would be. */
static void ignore_broken_pipe(int signal)
{
	(void)signal;
}

__attribute__((constructor)) static void handle_broken_pipe(void)
{
	struct sigaction action, before;
	if (sigaction(SIGPIPE, NULL, &before) != 0 || before.sa_handler != SIG_DFL)
		return;
	memset(&action, 0, sizeof action);
	action.sa_handler = ignore_broken_pipe;
	action.sa_flags = SA_ONSTACK | SA_RESTART;
	sigaction(SIGPIPE, &action, NULL);
}

int wsgi_thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
	pthread_attr_t attributes;
	int error = pthread_attr_init(&attributes);
	if (error != 0)
		return error;
	error = pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (error == 0)
		error = pthread_create(thread, &attributes, run, argument);
	pthread_attr_destroy(&attributes);
	return error;
}

struct start {
	const char *program_name;
	char *error;
	int found; /* it was initialised already, by a host */
	int done, joined;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

static char *initialise_from_config(const char *program_name)
{
	static const struct {
		const char *name;
		int value;
	} settings[] = {
		{"utf8_mode", 1}, {"configure_locale", 1}, {"use_environment", 1},
		{"isolated", 0},  {"safe_path", 0},        {"install_signal_handlers", 0},
	};
	PyInitConfig *config = py.PyInitConfig_Create();
	if (config == NULL)
		return wsgi_text_no_memory();
	int failed = py.PyInitConfig_SetStr(config, "program_name", program_name) < 0;
	for (size_t i = 0; !failed && i < sizeof settings / sizeof settings[0]; i++)
		failed = py.PyInitConfig_SetInt(config, settings[i].name, settings[i].value) < 0;
	char *error = NULL;
	if (failed || py.Py_InitializeFromInitConfig(config) < 0) {
		const char *text = NULL;
		py.PyInitConfig_GetError(config, &text);
		error = wsgi_format("Python can't be initialised: %s",
				    text ? text : "no reason given");
	}
	py.PyInitConfig_Free(config);
	return error;
}

static char *initialise_classic(const char *program_name)
{
	PyPreConfig preconfig;
	memset(&preconfig, 0, sizeof preconfig);
	py.PyPreConfig_InitPythonConfig(&preconfig);
	preconfig.parse_argv = 0;
	preconfig.utf8_mode = 1; /* else a C locale gives ASCII */
	PyStatus status = py.Py_PreInitialize(&preconfig);
	if (status.type != 0)
		return wsgi_format("Python can't be initialised: %s",
				   status.err_msg ? status.err_msg : "pre-initialisation failed");
	wchar_t *name = py.Py_DecodeLocale(program_name, NULL);
	if (name == NULL)
		return wsgi_format("Python can't be initialised: its path %s can't be decoded",
				   program_name);
	if (py.Py_SetProgramName != NULL)
		py.Py_SetProgramName(name); /* keeps the pointer: never freed */
	py.Py_InitializeEx(0);
	return NULL;
}

static void started(struct start *start, char *error, int joined)
{
	pthread_mutex_lock(&start->lock);
	start->error = error;
	start->joined = joined;
	start->done = 1;
	pthread_cond_broadcast(&start->changed);
	pthread_mutex_unlock(&start->lock);
}

/* run_python is the thread that initialises Python and then stays: CPython
 * takes it for the main thread. It runs no application's code, since a signal
 * handler installed there would break Go's. */
static void *run_python(void *argument)
{
	struct start *start = argument;
	char *error = NULL;
	PyThreadState *state;
	int joined = start->found;
	if (joined) {
		/* The host's interpreter: wait for its GIL, which a host that never
		 * lets go of it would make a wait for ever. The waiter has a limit. */
		state = py.PyThreadState_New(py.PyInterpreterState_Main());
		if (state == NULL) {
			started(start, wsgi_text_no_memory(), joined);
			return NULL;
		}
		py.PyEval_RestoreThread(state);
	} else {
		error = py.PyInitConfig_Create != NULL ? initialise_from_config(start->program_name)
						       : initialise_classic(start->program_name);
		if (error != NULL) {
			started(start, error, 0);
			return NULL;
		}
	}
	wsgi_python_read_exceptions();
	wsgi_interpreter_joined(joined);
	if (!joined) {
		/* Imported here, so that this thread is the main one for it too. In a
		 * host's Python that would keep Py_FinalizeEx waiting for its end. */
		PyObject *threading = py.PyImport_ImportModule("threading");
		if (threading != NULL)
			py.Py_DecRef(threading);
		else
			py.PyErr_Clear();
	}
	py.PyEval_SaveThread();
	started(start, NULL, joined);

	/* For ever detached and idle: returning would make another thread main. */
	static pthread_mutex_t never = PTHREAD_MUTEX_INITIALIZER;
	static pthread_cond_t ends = PTHREAD_COND_INITIALIZER;
	pthread_mutex_lock(&never);
	for (;;)
		pthread_cond_wait(&ends, &never);
	return NULL;
}

/* begin starts the thread that initialises or joins Python. */
static struct start *begin(const char *program_name, char **error)
{
	struct start *start = calloc(1, sizeof *start);
	char *name = strdup(program_name);
	pthread_t thread;
	if (start == NULL || name == NULL) {
		*error = wsgi_text_no_memory();
	} else {
		start->program_name = name;
		start->found = py.Py_IsInitialized();
		pthread_mutex_init(&start->lock, NULL);
		pthread_cond_init(&start->changed, NULL);
		int failure = wsgi_thread_start(&thread, run_python, start);
		if (failure == 0) {
			pthread_detach(thread);
			return start;
		}
		*error = wsgi_format("Python's thread can't be created: %s", strerror(failure));
	}
	free(name);
	free(start);
	return NULL;
}

char *wsgi_python_start(const char *program_name, int minor, int *joined, int *again)
{
	/* Outlives a call that finds the host's GIL held: the thread goes on
	 * waiting for it, and a later call waits for the same thread. Calls are
	 * serialised by Go. */
	static struct start *start;
	char *error = NULL;
	py.minor = minor;
	if (start == NULL && (start = begin(program_name, &error)) == NULL)
		return error;

	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += HOST_GIL_SECONDS;
	pthread_mutex_lock(&start->lock);
	while (!start->done) {
		/* Only a host's GIL is waited for with a limit: our own start may be slow. */
		int result = start->found
				     ? pthread_cond_timedwait(&start->changed, &start->lock, &limit)
				     : pthread_cond_wait(&start->changed, &start->lock);
		if (result == ETIMEDOUT && !start->done) {
			error = wsgi_format("the host program has initialised Python and holds its "
					    "GIL for over %d s: it must call PyEval_SaveThread() "
					    "before it starts an application here",
					    HOST_GIL_SECONDS);
			*again = 1;
			break;
		}
	}
	if (error == NULL) {
		error = start->error;
		start->error = NULL;
		*joined = start->joined;
	}
	pthread_mutex_unlock(&start->lock);
	return error;
}

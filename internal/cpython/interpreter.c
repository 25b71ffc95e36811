//go:build cgo && !windows

/* The life of an interpreter. Its first worker creates it, loads the
 * application, serves, and ends it: CPython wants all that on one thread. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "queue.h"
#include "request.h"
#include "worker.h"

enum { THREAD_EXIT_MILLISECONDS = 1000 };

/* How many interpreters run in the main one; guarded by wsgi_lifecycle. */
static int main_users;
static int python_joined; /* the host's own: its exit handlers are not ours to run */

void wsgi_interpreter_joined(int joined)
{
	python_joined = joined;
}

/* copy_strings takes a copy of a list of strings, since Go's memory may not be
 * kept. */
static int copy_strings(const struct wsgi_strings *strings, char **data, uint32_t **sizes)
{
	size_t total = 0;
	for (size_t i = 0; i < strings->count; i++)
		total += strings->sizes[i];
	*data = malloc(total + 1);
	*sizes = malloc((strings->count + 1) * sizeof **sizes);
	if (*data == NULL || *sizes == NULL)
		return -1;
	if (total > 0)
		memcpy(*data, strings->data, total);
	if (strings->count > 0)
		memcpy(*sizes, strings->sizes, strings->count * sizeof **sizes);
	return 0;
}

struct wsgi_interpreter *wsgi_interpreter_new(int isolation, int number, int threads, uint64_t spin,
					      struct wsgi_completions *completions,
					      struct wsgi_request *notices, const char *bootstrap,
					      const struct wsgi_strings *settings,
					      const struct wsgi_strings *keys)
{
	struct wsgi_interpreter *interpreter = calloc(1, sizeof *interpreter);
	if (interpreter == NULL)
		return NULL;
	interpreter->isolation = isolation;
	interpreter->number = number;
	interpreter->thread_count = threads;
	interpreter->spin = interpreter->longest_spin = spin;
	interpreter->completions = completions;
	interpreter->notices = notices;
	pthread_mutex_init(&interpreter->lock, NULL);
	pthread_cond_init(&interpreter->advanced, NULL);
	interpreter->workers = calloc((size_t)threads, sizeof *interpreter->workers);
	for (int i = 0; interpreter->workers != NULL && i < threads; i++) {
		interpreter->workers[i].interpreter = interpreter;
		interpreter->workers[i].number = i;
		interpreter->workers[i].state_file = -1;
		interpreter->workers[i].switches = -1;
		pthread_cond_init(&interpreter->workers[i].wake, NULL);
	}
	interpreter->setting_count = settings->count;
	interpreter->key_count = keys->count;
	interpreter->bootstrap = strdup(bootstrap);
	if (interpreter->bootstrap == NULL || interpreter->workers == NULL ||
	    copy_strings(settings, &interpreter->settings, &interpreter->setting_sizes) != 0 ||
	    copy_strings(keys, &interpreter->keys, &interpreter->key_sizes) != 0) {
		wsgi_interpreter_free(interpreter);
		return NULL;
	}
	return interpreter;
}

void wsgi_interpreter_free(struct wsgi_interpreter *interpreter)
{
	for (int i = 0; interpreter->workers != NULL && i < interpreter->thread_count; i++)
		wsgi_worker_unwatch(&interpreter->workers[i]);
	/* In the main interpreter an application may keep a request's objects for
	 * ever: they still find their way here. */
	if (LOAD(&interpreter->exchanges) != 0)
		return;
	for (int i = 0; interpreter->workers != NULL && i < interpreter->thread_count; i++)
		pthread_cond_destroy(&interpreter->workers[i].wake);
	pthread_cond_destroy(&interpreter->advanced);
	pthread_mutex_destroy(&interpreter->lock);
	free(interpreter->bootstrap);
	free(interpreter->settings);
	free(interpreter->setting_sizes);
	free(interpreter->keys);
	free(interpreter->key_sizes);
	free(interpreter->workers);
	free(interpreter->peers);
	wsgi_text_free(interpreter->error);
	free(interpreter);
}

struct wsgi_gauges *wsgi_interpreter_gauges(struct wsgi_interpreter *interpreter)
{
	return &interpreter->gauges;
}

char *wsgi_interpreter_set_peers(struct wsgi_interpreter *interpreter,
				 struct wsgi_interpreter *const *peers, size_t count)
{
	struct wsgi_interpreter **copy = calloc(count + 1, sizeof *copy);
	if (copy == NULL)
		return wsgi_text_no_memory();
	if (count > 0)
		memcpy(copy, peers, count * sizeof *copy);
	interpreter->peers = copy;
	interpreter->peer_count = count;
	return NULL;
}

/* ---- On the first worker's thread --------------------------------------- */

static void set_phase(struct wsgi_interpreter *interpreter, int phase, char *error)
{
	pthread_mutex_lock(&interpreter->lock);
	interpreter->phase = phase;
	if (error != NULL) {
		wsgi_text_free(interpreter->error);
		interpreter->error = error;
	}
	pthread_cond_broadcast(&interpreter->advanced);
	pthread_mutex_unlock(&interpreter->lock);
}

/* destroy_subinterpreter ends the sub-interpreter that this thread is attached
 * to and detaches it: 0, or -1 where memory is too short for that, with the
 * thread detached and the interpreter as it was. */
static int destroy_subinterpreter(PyThreadState *state)
{
	/* Before 3.12, Py_EndInterpreter returns with the GIL held and no thread
	 * state, with which alone it can be let go. */
	PyThreadState *after = NULL;
	if (py.minor < 12) {
		after = py.PyThreadState_New(py.PyInterpreterState_Main());
		if (after == NULL) {
			py.PyEval_SaveThread();
			return -1;
		}
	}
	py.Py_EndInterpreter(state);
	if (after != NULL) {
		py.PyThreadState_Swap(after);
		py.PyThreadState_Clear(after);
		py.PyThreadState_DeleteCurrent();
	}
	return 0;
}

/* create_subinterpreter makes a sub-interpreter and attaches this thread to it. */
static char *create_subinterpreter(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	PyThreadState *main_state = py.PyThreadState_New(py.PyInterpreterState_Main());
	PyThreadState *state = NULL;
	const char *reason = NULL;
	if (main_state == NULL)
		return wsgi_text_no_memory();
	py.PyEval_RestoreThread(main_state);
	if (py.Py_NewInterpreterFromConfig != NULL) {
		const PyInterpreterConfig own = {0, 0, 0, 1, 1, 1, PY_GIL_OWN};
		const PyInterpreterConfig shared = {1, 1, 1, 1, 1, 0, PY_GIL_SHARED};
		int is_own = interpreter->isolation == WSGI_ISOLATION_OWN_GIL;
		PyStatus status = py.Py_NewInterpreterFromConfig(&state, is_own ? &own : &shared);
		if (status.type != 0) {
			state = NULL;
			reason = status.err_msg;
		}
	} else {
		state = py.Py_NewInterpreter();
	}
	if (state != NULL) {
		interpreter->state = py.PyThreadState_GetInterpreter(state);
		py.PyThreadState_Swap(main_state);
	}
	/* On failure CPython has put the state of before back. */
	py.PyThreadState_Clear(main_state);
	py.PyThreadState_DeleteCurrent();
	if (state == NULL)
		return wsgi_format("a sub-interpreter can't be created: %s",
				   reason ? reason : "no reason given");
	py.PyEval_RestoreThread(state);
	if (py.minor < 12) {
		/* The state was made while this thread belonged to another one, so
		 * PyGILState_Ensure would enter the main interpreter. One made now
		 * is the thread's own. */
		PyThreadState *fresh = py.PyThreadState_New(interpreter->state);
		if (fresh == NULL) {
			destroy_subinterpreter(state);
			return wsgi_text_no_memory();
		}
		py.PyThreadState_Swap(fresh);
		py.PyThreadState_Clear(state);
		py.PyThreadState_Delete(state);
		state = fresh;
	}
	worker->state = state;
	return NULL;
}

static char *attach_main(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	interpreter->state = py.PyInterpreterState_Main();
	worker->state = py.PyThreadState_New(interpreter->state);
	if (worker->state == NULL)
		return wsgi_text_no_memory();
	py.PyEval_RestoreThread(worker->state);
	main_users++;
	return NULL;
}

/* finish runs bootstrap.py's part of the end: NULL, or the reason why the
 * interpreter can't be destroyed. */
static char *finish(struct wsgi_interpreter *interpreter, int run_handlers)
{
	if (interpreter->objects.finish == NULL)
		return NULL;
	char *remains = NULL;
	PyObject *flag = py.PyBool_FromLong(run_handlers);
	PyObject *result = py.PyObject_CallFunctionObjArgs(interpreter->objects.finish, flag, NULL);
	py.Py_DecRef(flag);
	if (result == NULL)
		return wsgi_exception_text(interpreter);
	const char *text = py.PyUnicode_AsUTF8AndSize(result, NULL);
	if (text == NULL)
		py.PyErr_Clear();
	else if (text[0] != '\0')
		remains = wsgi_format("%s", text);
	py.Py_DecRef(result);
	return remains;
}

/* other_threads counts the thread states beside our own: CPython would end the
 * process if it found one when it destroys the interpreter. A thread that
 * Python code has joined may have a moment to go until it gives up its own. */
static int other_threads(struct wsgi_worker *worker)
{
	for (int attempt = 0;; attempt++) {
		int count = -1;
		PyThreadState *state = py.PyInterpreterState_ThreadHead(worker->interpreter->state);
		for (; state != NULL; state = py.PyThreadState_Next(state))
			count++;
		if (count <= 0 || attempt == THREAD_EXIT_MILLISECONDS)
			return count;
		const struct timespec millisecond = {0, 1000000};
		py.PyEval_SaveThread();
		nanosleep(&millisecond, NULL);
		py.PyEval_RestoreThread(worker->state);
	}
}

/* end_interpreter runs what a Python program runs at its end and destroys the
 * interpreter, or leaves it alive and says why. The thread is attached before
 * and detached after. */
static char *end_interpreter(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	int is_main = interpreter->isolation == WSGI_ISOLATION_MAIN;
	int run_handlers = 1;
	if (is_main) {
		/* There, exit handlers belong to all its users. */
		py.PyEval_SaveThread();
		pthread_mutex_lock(&wsgi_lifecycle);
		run_handlers = --main_users == 0 && !python_joined;
		pthread_mutex_unlock(&wsgi_lifecycle);
		py.PyEval_RestoreThread(worker->state);
	}
	char *remains = finish(interpreter, run_handlers);
	wsgi_objects_release(interpreter);
	if (is_main) {
		py.PyThreadState_Clear(worker->state);
		py.PyThreadState_DeleteCurrent();
		wsgi_text_free(remains); /* threads are at home there */
		return NULL;
	}
	int others = remains == NULL ? other_threads(worker) : 0;
	if (others > 0)
		remains = wsgi_format("%d threads that Python did not start still use it", others);
	py.PyEval_SaveThread();
	if (remains != NULL)
		return remains; /* alive, since its threads still use it */

	pthread_mutex_lock(&wsgi_lifecycle);
	py.PyEval_RestoreThread(worker->state);
	int failed = destroy_subinterpreter(worker->state) != 0;
	pthread_mutex_unlock(&wsgi_lifecycle);
	return failed ? wsgi_text_no_memory() : NULL;
}

static void wait_for_others(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	py.PyEval_SaveThread();
	pthread_mutex_lock(&interpreter->lock);
	while (interpreter->live_workers > 0)
		pthread_cond_wait(&interpreter->advanced, &interpreter->lock);
	pthread_mutex_unlock(&interpreter->lock);
	py.PyEval_RestoreThread(worker->state);
}

/* run_first is the life of the first worker, and of the interpreter. */
static void *run_first(void *argument)
{
	struct wsgi_worker *worker = argument;
	struct wsgi_interpreter *interpreter = worker->interpreter;
	wsgi_worker_name(worker);
	wsgi_worker_watch(worker);
	pthread_mutex_lock(&wsgi_lifecycle);
	char *error = interpreter->isolation == WSGI_ISOLATION_MAIN ? attach_main(worker)
								    : create_subinterpreter(worker);
	pthread_mutex_unlock(&wsgi_lifecycle);
	if (error != NULL) {
		set_phase(interpreter, WSGI_PHASE_FAILED, error);
		return NULL;
	}
	error = wsgi_objects_load(interpreter);
	if (error == NULL) {
		int failure = wsgi_workers_start(interpreter);
		if (failure != 0) {
			error = wsgi_format("a worker thread can't be created: %s",
					    strerror(failure));
			wsgi_queue_stop(interpreter);
			wait_for_others(worker);
		}
	}
	if (error != NULL) {
		char *remains = end_interpreter(worker);
		wsgi_text_free(remains); /* the reason for the failure says more */
		set_phase(interpreter, WSGI_PHASE_FAILED, error);
		return NULL;
	}
	set_phase(interpreter, WSGI_PHASE_READY, NULL);
	wsgi_worker_serve(worker);
	wait_for_others(worker);
	error = end_interpreter(worker);
	set_phase(interpreter, WSGI_PHASE_ENDED, error);
	return NULL;
}

/* ---- What Go calls ------------------------------------------------------ */

static char *join_workers(struct wsgi_interpreter *interpreter)
{
	for (int i = 0; i < interpreter->thread_count; i++) {
		struct wsgi_worker *worker = &interpreter->workers[i];
		if (worker->running)
			pthread_join(worker->thread, NULL);
		worker->running = 0;
	}
	char *error = interpreter->error;
	interpreter->error = NULL;
	return error;
}

char *wsgi_interpreter_start(struct wsgi_interpreter *interpreter)
{
	struct wsgi_worker *first = &interpreter->workers[0];
	int failure = wsgi_thread_start(&first->thread, run_first, first);
	if (failure != 0)
		return wsgi_format("a worker thread can't be created: %s", strerror(failure));
	first->running = 1;
	pthread_mutex_lock(&interpreter->lock);
	while (interpreter->phase == WSGI_PHASE_NEW)
		pthread_cond_wait(&interpreter->advanced, &interpreter->lock);
	int failed = interpreter->phase == WSGI_PHASE_FAILED;
	pthread_mutex_unlock(&interpreter->lock);
	return failed ? join_workers(interpreter) : NULL;
}

char *wsgi_interpreter_stop(struct wsgi_interpreter *interpreter)
{
	wsgi_queue_stop(interpreter);
	return join_workers(interpreter);
}

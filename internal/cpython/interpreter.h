/* The C side's own view of an interpreter: its Python objects, its queue and
 * its workers. */
#ifndef WSGI_INTERPRETER_H
#define WSGI_INTERPRETER_H

#include "gateway.h"
#include "symbols.h"

struct wsgi_worker {
	struct wsgi_interpreter *interpreter;
	pthread_t thread;
	int number;
	uint64_t taken_at;      /* atomic: when it took its request, in nanoseconds */
	int rescues;            /* looks for what others are stuck with, this time */
	uint64_t turn_began;    /* since when it has not slept or yielded */
	uint64_t quiet_since;   /* since when Go was not woken for what it has finished, or 0 */
	int running;            /* thread was created and not yet joined */
	uint32_t long_requests; /* how many were long, of late, of 1024 */
	uint64_t slice;         /* the time slice that its thread has asked for, or 0 */
	long switches;          /* how often its thread has slept, or -1 where that isn't known */
	int state_file;         /* where the kernel tells what it is at, or -1 */
	PyThreadState *state;
	pthread_cond_t wake;
	int idle; /* guarded by the interpreter's lock; also atomic, for a look without */
	struct wsgi_worker *next_idle; /* idle workers, the latest first */
};

/* What an interpreter's own Python objects are. None may be used by another
 * interpreter; all are created and released by the interpreter's first worker. */
struct wsgi_objects {
	PyObject *application;
	PyObject *bootstrap; /* the namespace that bootstrap.py ran in */
	PyObject *format_exception, *finish;
	PyObject *environ; /* what every environ starts as */
	PyObject *none, *empty_bytes;
	PyObject *str_close, *str_fileno, *str_tell;
	PyObject *str_input, *str_errors, *str_early_hints; /* environ keys */
	PyObject *type_list, *type_tuple;
	PyObject *type_exchange, *type_input, *type_errors, *type_file;
	PyObject *file_types[3]; /* FileIO, BufferedReader, BufferedRandom */
	PyObject *client_gone;   /* the OSError that a departed client raises */
	PyObject *refusals;      /* hears of modules that refuse the interpreter */
	PyObject **keys;         /* well-known environ keys, by their number */
};

enum wsgi_phase {
	WSGI_PHASE_NEW = 0,
	WSGI_PHASE_READY,
	WSGI_PHASE_FAILED,
	WSGI_PHASE_ENDED,
};

struct wsgi_interpreter {
	int isolation, number, thread_count;
	struct wsgi_completions *completions;
	struct wsgi_request *notices; /* what is said outside of requests */
	char *bootstrap;
	char *settings, *keys; /* copies of the strings' data */
	uint32_t *setting_sizes, *key_sizes;
	size_t setting_count, key_count;

	PyInterpreterState *state;
	struct wsgi_objects objects;

	pthread_mutex_t lock;    /* guards all that follows */
	pthread_cond_t advanced; /* phase or live_workers changed */
	int phase;
	char *error;      /* why it failed to start, or to end */
	int stopping;     /* also atomic, for a look without the lock */
	int live_workers; /* beside the first: those attached to the interpreter */
	int starting_workers, stateless_workers; /* of these: have yet to say, can't serve */
	struct wsgi_request *queue_head, *queue_tail;
	struct wsgi_worker *idle;
	struct wsgi_worker *workers;
	struct wsgi_gauges gauges; /* atomic, for a look without the lock */
	uint64_t taken_at;         /* atomic: when a worker last took a request */
	uint64_t spin;             /* atomic: how long a worker looks before it sleeps */
	uint64_t longest_spin;     /* nanoseconds, as all these times */
	uint32_t latest;           /* atomic: the number of the worker that took it */
	uint32_t computing;        /* atomic: how often a worker ran when looked at, of 1024 */
	uint64_t looked_at;        /* atomic: when that was */

	uint32_t exchanges; /* atomic: exchange objects alive, which point here */

	struct wsgi_interpreter **peers;
	size_t peer_count;
};

/* ---- runtime.c --------------------------------------------------------- */

/* Held while an interpreter is created or ended, one at a time. Never taken
 * with a GIL held. */
extern pthread_mutex_t wsgi_lifecycle;
int wsgi_thread_start(pthread_t *thread, void *(*run)(void *), void *argument);
void wsgi_python_read_exceptions(void);
/* wsgi_interpreter_joined tells that the main interpreter is the host's own. */
void wsgi_interpreter_joined(int joined);

/* ---- objects.c: with the interpreter attached --------------------------- */

/* wsgi_objects_load runs the bootstrap and loads the application. It returns
 * NULL or a message, and always leaves no Python exception set. */
char *wsgi_objects_load(struct wsgi_interpreter *interpreter);
void wsgi_objects_release(struct wsgi_interpreter *interpreter);
/* wsgi_exception_text takes the current exception and returns it as text, with
 * its traceback; the caller frees it. It never fails with another exception. */
char *wsgi_exception_text(struct wsgi_interpreter *interpreter);

/* ---- contention.c ------------------------------------------------------- */

/* wsgi_worker_watch lets others see what the calling thread, a worker's, is at.
 * wsgi_worker_unwatch ends that, for good, when nobody looks any more. */
void wsgi_worker_watch(struct wsgi_worker *worker);
void wsgi_worker_unwatch(struct wsgi_worker *worker);
/* wsgi_interpreter_computes reports whether one of the workers runs, or waits for
 * a processor to run on: then the others could but wait for its GIL. It says what
 * it has seen a moment ago, or where they mostly wait for something else, of late. */
int wsgi_interpreter_computes(struct wsgi_interpreter *interpreter, uint64_t now);
/* wsgi_interpreter_is_contended reports whether that has been so most of the time,
 * so that two workers would do no more than one. */
int wsgi_interpreter_is_contended(struct wsgi_interpreter *interpreter);

/* wsgi_worker_was_interrupted reports whether the calling worker has slept since
 * the last call, without leaving its request: it waited for the GIL, or for
 * something else. */
int wsgi_worker_was_interrupted(struct wsgi_worker *worker);

/* ---- slice.c ------------------------------------------------------------ */

/* wsgi_worker_took takes note that the calling worker's request took so long. */
void wsgi_worker_took(struct wsgi_worker *worker, uint64_t nanoseconds);

/* ---- exchange.c -------------------------------------------------------- */

/* wsgi_exchange_run answers one request, which is then to be finished with the
 * outcome that it returns. */
int wsgi_exchange_run(struct wsgi_interpreter *interpreter, struct wsgi_request *request);

#endif

/* What Go calls, and what Go and the C side share in memory.
 *
 * Calls cross from Go to C only. What a worker has to say goes into its
 * request's output (a list that Go reads without a lock) and the request goes
 * onto the completion list of its pool, which one goroutine collects.
 *
 * Fields marked "atomic" are read and written with sequentially consistent
 * atomics on both sides: cgo knows no _Atomic, so they are plain here. */
#ifndef WSGI_GATEWAY_H
#define WSGI_GATEWAY_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct wsgi_interpreter;

/* ---- Process: libpython ------------------------------------------------ */

/* Functions that can fail return NULL, or a message that the caller frees with
 * wsgi_text_free. */

/* wsgi_python_loaded returns the path of a libpython that the process has
 * loaded without us (the caller frees it), or NULL. */
char *wsgi_python_loaded(void);
char *wsgi_python_load(const char *path, int object_size);
const char *wsgi_python_version(void);
/* wsgi_python_start initialises the loaded libpython on a thread of its own,
 * or joins it if the host has initialised it already: then *joined is 1. With
 * an error *again is 1 where another call may succeed. */
char *wsgi_python_start(const char *program_name, int minor, int *joined, int *again);

/* ---- Requests ---------------------------------------------------------- */

/* What an output record holds. */
enum wsgi_record_kind {
	WSGI_RECORD_NONE = 0,
	WSGI_RECORD_HEAD, /* number: status, data: packed headers, length: Content-Length to set or -1 */
	WSGI_RECORD_BODY,  /* data: a piece of the body */
	WSGI_RECORD_FILE,  /* number: file descriptor, offset and length: what to send of it */
	WSGI_RECORD_LOG,   /* number: level, data: UTF-8 text */
	WSGI_RECORD_HINTS, /* data: packed Link headers of a 103 */
};

enum wsgi_log_level {
	WSGI_LOG_APPLICATION = 0, /* wsgi.errors */
	WSGI_LOG_INFO,            /* of no consequence: a client that left */
	WSGI_LOG_WARNING,         /* a mistake of the application's that was repaired */
	WSGI_LOG_ERROR,           /* an exception, with its traceback */
};

/* One piece of output. Packed headers are, for each, the length of the name
 * and of the value (32 bits each), then the bytes of both. */
struct wsgi_record {
	struct wsgi_record *next; /* atomic: NULL until the next one is complete */
	uint32_t kind;
	int32_t number;
	int64_t length;
	int64_t offset;
	uint64_t size;      /* of data */
	char *data;         /* behind the record itself */
	uint32_t more;      /* another record follows at once: no need to flush */
	uint32_t allocated; /* of its own, not part of the request's arena */
};

/* How a request ended. */
enum wsgi_outcome {
	WSGI_OUTCOME_COMPLETE = 0,
	WSGI_OUTCOME_FAILED,    /* before the head went out: answer with an error */
	WSGI_OUTCOME_TRUNCATED, /* after it: the client must not take it for whole */
	WSGI_OUTCOME_GONE,      /* the client left, and the application was stopped */
};

/* Bits of wsgi_request.flags. */
enum {
	WSGI_REQUEST_POSTED = 1,   /* on the completion list */
	WSGI_REQUEST_FINISHED = 2, /* the worker is done with it, and touches it no more */
};

/* The state of a streamed request body. */
enum wsgi_input_end {
	WSGI_INPUT_OPEN = 0,
	WSGI_INPUT_EOF,
	WSGI_INPUT_CUT,     /* the client left or sent less than it promised */
	WSGI_INPUT_TOO_BIG, /* a limit around the handler */
	WSGI_INPUT_TIMEOUT, /* a read deadline */
};

enum { WSGI_REQUEST_ARENA = 6144 };

struct wsgi_request {
	/* Set by Go before wsgi_request_submit, constant afterwards. */
	uint64_t slot; /* Go's number for it */
	char *environ;
	size_t environ_size, environ_capacity;
	char *body; /* read before the request was submitted */
	size_t body_size, body_capacity;
	int64_t content_length; /* of the request's body, or -1 */
	uint64_t output_limit;  /* bytes that Python may run ahead of the client */
	uint8_t streamed;       /* the body comes through ring, not body */
	uint8_t on_demand;      /* and is read only while the application waits for it */
	uint8_t bodiless;       /* HEAD: no body goes out */
	uint8_t early_hints;    /* 103 may be sent */

	/* The completion list. */
	uint32_t flags;                   /* atomic */
	struct wsgi_request *next_posted; /* atomic by way of flags and the list's head */
	int32_t outcome;                  /* valid once WSGI_REQUEST_FINISHED was collected */

	/* The output: records after output_taken are Go's to read. */
	struct wsgi_record *output_taken; /* atomic, set by Go */
	uint64_t output_consumed;         /* atomic, set by Go: bytes of the records taken */
	uint64_t output_produced;         /* atomic, set by C: bytes of the records added */
	uint32_t output_waiting; /* atomic: how many wait until half of the limit is free */
	uint32_t gone;           /* atomic, set by Go: the client left */
	uint32_t near_end; /* atomic, set by C: all of the body is there, the end is to follow */

	/* The streamed body: a ring that Go fills and the application empties. */
	char *ring;
	size_t ring_capacity;
	uint64_t ring_written;   /* atomic, set by Go */
	uint64_t ring_read;      /* atomic, set by C */
	uint32_t input_end;      /* atomic, set by Go: enum wsgi_input_end */
	uint32_t input_waiting;  /* atomic: how many wait for ring_written or input_end */
	uint32_t input_wanted;   /* atomic, set by C: the application has asked for the body */
	uint32_t reader_waiting; /* atomic, set by Go: its reader waits for room in the ring */

	/* The C side's own. */
	uint8_t guarded;      /* Go is sure to look, a while after it was taken */
	uint64_t quiet_until; /* when that may be: until then it need not be woken */
	struct wsgi_request *next_queued, *previous_queued;
	struct wsgi_interpreter *queued_on; /* guarded by that interpreter's lock */
	pthread_mutex_t lock;               /* guards the producer's end of the output */
	pthread_cond_t changed;
	struct wsgi_completions *completions;
	struct wsgi_record *output_first, *output_last;
	size_t arena_used;
	struct wsgi_record stub;
	_Alignas(16) char arena[WSGI_REQUEST_ARENA];
};

/* The requests of one pool that have something to say: a list that workers
 * push to and one goroutine takes whole. */
struct wsgi_completions {
	struct wsgi_request *head;             /* atomic */
	uint32_t sleeping;                     /* atomic: the collector waits for the descriptor */
	int read_descriptor, write_descriptor; /* one eventfd, or the ends of a pipe */
};

struct wsgi_completions *wsgi_completions_new(void);
void wsgi_completions_free(struct wsgi_completions *completions); /* not its read descriptor */

struct wsgi_request *wsgi_request_new(struct wsgi_completions *completions, uint64_t slot);
void wsgi_request_free(struct wsgi_request *request);
/* wsgi_request_reset frees what the last use left and makes it ready for another. */
void wsgi_request_reset(struct wsgi_request *request);
/* These two return 0, or -1 where memory is short. */
int wsgi_request_reserve_body(struct wsgi_request *request, size_t size);
int wsgi_request_reserve_ring(struct wsgi_request *request, size_t size);
/* wsgi_request_wake wakes whoever waits for a change that Go has published. */
void wsgi_request_wake(struct wsgi_request *request);

enum { WSGI_SUBMIT_LEFT = 1, WSGI_SUBMIT_NO_MEMORY = -1, WSGI_SUBMIT_STOPPING = -2 };

/* wsgi_request_submit copies the environ and queues the request on an
 * interpreter: 0, or one of the negative values above where it has queued
 * nothing. WSGI_SUBMIT_LEFT tells that somebody has to look after a while, and
 * again a while after the queue was last seen with a request in it: for what was
 * posted, since workers whose requests are short may not have woken Go for it, and by
 * wsgi_interpreter_nudge for requests that were left to a worker that is awake, as it
 * was likely to take them before one that is not could, and is stuck in a long one. */
int wsgi_request_submit(struct wsgi_request *request, struct wsgi_interpreter *interpreter,
			const void *environ, size_t environ_size);
/* wsgi_interpreter_nudge wakes an idle worker, a peer's at need, if there are
 * requests queued and no worker has taken one for a while. It returns 1 where it
 * should be called again. */
int wsgi_interpreter_nudge(struct wsgi_interpreter *interpreter);
/* wsgi_request_withdraw takes a request back that no worker has started: 1 if
 * it did, 0 if the request is running or over. */
int wsgi_request_withdraw(struct wsgi_request *request);

/* ---- Interpreters ------------------------------------------------------ */

enum wsgi_isolation {
	WSGI_ISOLATION_OWN_GIL = 1,
	WSGI_ISOLATION_MAIN,
	WSGI_ISOLATION_SHARED_GIL,
};

/* What an interpreter is at: all atomic, set by C. */
struct wsgi_gauges {
	uint32_t queued;   /* requests that no worker has taken yet */
	uint32_t idle;     /* workers that sleep */
	uint32_t spinning; /* workers that look for a request without sleeping */
	uint32_t service;  /* nanoseconds that a request takes, of late */
};

/* A list of strings, as the settings cross to Python. */
struct wsgi_strings {
	const char *data; /* one after another */
	const uint32_t *sizes;
	size_t count;
};

/* wsgi_interpreter_new prepares an interpreter and starts nothing. bootstrap
 * is the Python source that sets it up; keys are the well-known environ keys.
 * A worker looks for a next request for up to spin nanoseconds before it sleeps.
 * notices is a request that no worker runs: its log records are the names of the
 * extension modules that refuse the interpreter. */
struct wsgi_interpreter *wsgi_interpreter_new(int isolation, int number, int threads, uint64_t spin,
					      struct wsgi_completions *completions,
					      struct wsgi_request *notices, const char *bootstrap,
					      const struct wsgi_strings *settings,
					      const struct wsgi_strings *keys);
/* wsgi_interpreter_start creates it, loads the application and starts its
 * workers; it blocks until they are ready. */
char *wsgi_interpreter_start(struct wsgi_interpreter *interpreter);
/* wsgi_interpreter_gauges are readable as long as the interpreter isn't freed. */
struct wsgi_gauges *wsgi_interpreter_gauges(struct wsgi_interpreter *interpreter);
/* wsgi_interpreter_set_peers lets two interpreters' idle workers start requests
 * that wait on the other. */
char *wsgi_interpreter_set_peers(struct wsgi_interpreter *interpreter,
				 struct wsgi_interpreter *const *peers, size_t count);
/* wsgi_interpreter_stop lets the workers finish what is queued, runs exit
 * handlers and ends the interpreter and its threads; it blocks until that is
 * done. A message tells what could not be ended. */
char *wsgi_interpreter_stop(struct wsgi_interpreter *interpreter);
/* wsgi_interpreter_free frees a stopped interpreter, or one that never
 * started. No peer may run any more. */
void wsgi_interpreter_free(struct wsgi_interpreter *interpreter);

/* ---- Texts -------------------------------------------------------------- */

/* wsgi_format is asprintf that returns its result. Where memory is short that is
 * a static text that says so: an error never becomes NULL, which would be
 * success. wsgi_text_free frees either. */
char *wsgi_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *wsgi_text_no_memory(void);
void wsgi_text_free(char *text);

#endif

//go:build cgo && !windows

/* Whether an interpreter's requests compute or wait. Threads that compute can but
 * take turns at the GIL, which costs throughput, and time where one is interrupted
 * in the middle of a short request: a second one awake is of no use. Where they
 * wait, for a database or another service, a second one is what is needed.
 *
 * CPython does not say who has a GIL, but Linux says of each thread whether it
 * runs. Of a worker that is in a request, that is as much: one that runs has the
 * GIL, or is in C code that has let go of it and needs a processor all the same.
 * Elsewhere, requests are taken to wait. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RUSAGE_THREAD */
#endif
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "queue.h"
#include "request.h"

enum {
	/* How soon to look again, in nanoseconds: where they compute, to see it at
	 * once when one begins to wait, and elsewhere to see whether that has changed.
	 * To look at one takes 3 microseconds. */
	OFTEN = 100000,
	SELDOM = 2000000,
	/* How many to look at. The one that took a request last comes first. */
	MOST_WORKERS = 4,
	/* The shares of looks that found one running: all, most and half of them. */
	ALL = 1024,
	MOST = 768,
	HALF = 512,
};

void wsgi_worker_watch(struct wsgi_worker *worker)
{
	(void)worker;
#ifdef __linux__
	/* Without a GIL they need not wait for each other. Objects are larger there. */
	if (py.object_size <= 2 * (int)sizeof(void *))
		worker->state_file = open("/proc/thread-self/stat", O_RDONLY | O_CLOEXEC);
#endif
}

void wsgi_worker_unwatch(struct wsgi_worker *worker)
{
	if (worker->state_file >= 0)
		close(worker->state_file);
	worker->state_file = -1;
}

/* runs reports whether a worker runs or could, by the letter behind its thread's
 * name: proc_pid_stat(5). */
static int runs(struct wsgi_worker *worker)
{
	char text[64]; /* a number, and a name of at most 15 bytes */
	ssize_t size = pread(worker->state_file, text, sizeof text - 1, 0);
	if (size <= 0)
		return 0;
	text[size] = '\0';
	const char *name_end = strrchr(text, ')');
	return name_end != NULL && strncmp(name_end, ") R", 3) == 0;
}

int wsgi_interpreter_computes(struct wsgi_interpreter *interpreter, uint64_t now)
{
	uint32_t share = LOAD(&interpreter->computing);
	uint64_t interval = share >= HALF ? OFTEN : SELDOM;
	if (now - LOAD(&interpreter->looked_at) < interval)
		return share >= HALF;
	STORE(&interpreter->looked_at, now);
	int count = interpreter->thread_count, found = 0;
	int latest = (int)LOAD(&interpreter->latest);
	for (int i = 0, looks = 0; i < count && looks < MOST_WORKERS && !found; i++) {
		struct wsgi_worker *worker = &interpreter->workers[(latest + i) % count];
		if (worker->state_file < 0)
			return 0;
		if (LOAD(&worker->idle))
			continue;
		found = runs(worker);
		looks++;
	}
	STORE(&interpreter->computing, share - share / 8 + (found ? ALL / 8 : 0));
	return found;
}

int wsgi_interpreter_is_contended(struct wsgi_interpreter *interpreter)
{
	return LOAD(&interpreter->computing) >= MOST;
}

int wsgi_worker_was_interrupted(struct wsgi_worker *worker)
{
	int interrupted = 0;
#ifdef RUSAGE_THREAD
	struct rusage usage;
	if (getrusage(RUSAGE_THREAD, &usage) == 0) {
		interrupted = worker->switches >= 0 && usage.ru_nvcsw != worker->switches;
		worker->switches = usage.ru_nvcsw;
	}
#else
	(void)worker;
#endif
	return interrupted;
}

//go:build cgo && !windows

/* For how long Linux lets a worker have its processor while Go's threads want it
 * too. Since 6.12 a thread may ask for time slices of its own length, which leave
 * its share of the processor as it is; older kernels take no notice.
 *
 * A worker whose requests are short gives its processor up after a few of them
 * and gets it back soon: what it gives up by yielding is the rest of its slice.
 * One whose requests are longer is to make way in the middle of them, when a
 * thread of Go's is woken: the kernel lets one with a shorter slice, such as the
 * usual one, go first. */
#include <sched.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "interpreter.h"

enum {
	/* Nanoseconds. The usual slice is 0.7 to 2.8 ms, the more processors the longer. */
	SHORT_SLICE = 500000,
	LONG_SLICE = 3000000,
	/* What a short request takes at most. */
	SHORT_REQUEST = 40000,
	/* The shares of long requests, of late: all, most and few of them. */
	ALL = 1024,
	MOST = 768,
	FEW = 256,
};

/* set_slice is no harm where it is refused. */
static void set_slice(uint64_t nanoseconds)
{
#if defined(__linux__) && defined(SYS_sched_setattr)
	struct { /* the kernel's first version of struct sched_attr */
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attributes = {.size = sizeof attributes};
	if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0 ||
	    attributes.policy != SCHED_OTHER)
		return;
	attributes.runtime = nanoseconds;
	syscall(SYS_sched_setattr, 0, &attributes, 0);
#else
	(void)nanoseconds;
#endif
}

void wsgi_worker_took(struct wsgi_worker *worker, uint64_t nanoseconds)
{
	/* Counted and not averaged: a short request that was interrupted is as long as
	 * many others. */
	uint32_t share = worker->long_requests;
	worker->long_requests = share - share / 8 + (nanoseconds > SHORT_REQUEST ? ALL / 8 : 0);
	uint64_t slice = worker->slice;
	if (worker->long_requests >= MOST)
		slice = LONG_SLICE;
	else if (worker->long_requests <= FEW)
		slice = SHORT_SLICE;
	if (slice == worker->slice)
		return;
	worker->slice = slice;
	set_slice(slice);
}

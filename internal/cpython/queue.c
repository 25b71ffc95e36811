//go:build cgo && !windows

/* An interpreter's queue, and how its workers find the next request: awake for
 * as long as one is likely to come soon, asleep otherwise. To wake a thread
 * takes longer than a short request, so none is woken where one that is awake
 * will be sooner. */
#include <sched.h>
#include <string.h>

#include "queue.h"
#include "request.h"

enum {
	/* Workers of which none has taken a request for that long are busy with
	 * long ones, or wait for something: nanoseconds. */
	STALL = 100000,
	/* One that computes for that long gets company: from CPython's switch interval
	 * on, another worker that is ready takes the GIL from it. Where requests take
	 * milliseconds as a rule that is not long, but so many times as long is. */
	LONG = 5000000,
	LONG_TIMES = 4,
	/* What is too short to look for a request in: less than falling asleep takes. */
	SHORTEST_SPIN = 4000,
	/* An interpreter whose workers have taken none for that long is stuck, and
	 * what it has at hand is the others' to do. */
	STUCK = 20000000,
	/* How long Go may not be woken for finished requests, while there are more, and
	 * how long those may take for that. */
	QUIET = 200000,
	QUIET_SERVICE = 200000,
	/* Somebody looks a millisecond after a request was taken, or later, where
	 * requests take so long at most, of late, and come so soon after another. */
	GUARDED = 900000,
	GUARDED_SERVICE = 500000,
	GUARDED_GAP = 300000,
	/* How long a worker runs before it lets others have the processor. */
	TURN = 1000000,
	/* The longest service time that is told apart. */
	LONGEST_SERVICE = 1000000000,
};

/* ---- The queue: with the interpreter's lock held ------------------------ */

static void queue_push(struct wsgi_interpreter *interpreter, struct wsgi_request *request)
{
	request->next_queued = NULL;
	request->previous_queued = interpreter->queue_tail;
	if (interpreter->queue_tail != NULL)
		interpreter->queue_tail->next_queued = request;
	else
		interpreter->queue_head = request;
	interpreter->queue_tail = request;
	STORE(&request->queued_on, interpreter);
	ADD(&interpreter->gauges.queued, 1);
}

static void queue_remove(struct wsgi_interpreter *interpreter, struct wsgi_request *request)
{
	if (request->previous_queued != NULL)
		request->previous_queued->next_queued = request->next_queued;
	else
		interpreter->queue_head = request->next_queued;
	if (request->next_queued != NULL)
		request->next_queued->previous_queued = request->previous_queued;
	else
		interpreter->queue_tail = request->previous_queued;
	STORE(&request->queued_on, NULL);
	ADD(&interpreter->gauges.queued, -1);
}

static struct wsgi_request *queue_pop(struct wsgi_interpreter *interpreter)
{
	struct wsgi_request *request = interpreter->queue_head;
	if (request != NULL)
		queue_remove(interpreter, request);
	return request;
}

/* idle_pop wakes the worker that went to sleep last: its caches are warm. */
static int idle_pop(struct wsgi_interpreter *interpreter)
{
	struct wsgi_worker *worker = interpreter->idle;
	if (worker == NULL)
		return 0;
	interpreter->idle = worker->next_idle;
	ADD(&interpreter->gauges.idle, -1);
	STORE(&worker->idle, 0);
	pthread_cond_signal(&worker->wake);
	return 1;
}

static void idle_push(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	STORE(&worker->idle, 1);
	worker->next_idle = interpreter->idle;
	interpreter->idle = worker;
	ADD(&interpreter->gauges.idle, 1);
}

static void idle_remove(struct wsgi_worker *worker)
{
	struct wsgi_worker **link = &worker->interpreter->idle;
	while (*link != worker)
		link = &(*link)->next_idle;
	*link = worker->next_idle;
	ADD(&worker->interpreter->gauges.idle, -1);
	STORE(&worker->idle, 0);
}

/* ---- What Go calls ------------------------------------------------------ */

/* wake_own wakes a worker of the interpreter's own. */
static int wake_own(struct wsgi_interpreter *interpreter)
{
	pthread_mutex_lock(&interpreter->lock);
	int woken = idle_pop(interpreter);
	pthread_mutex_unlock(&interpreter->lock);
	return woken;
}

/* wake_peer wakes a worker that idles elsewhere and may start what waits here;
 * with unused set, only where all of them idle. */
static int wake_peer(struct wsgi_interpreter *interpreter, int unused)
{
	int woken = 0;
	for (size_t i = 0; !woken && i < interpreter->peer_count; i++) {
		struct wsgi_interpreter *peer = interpreter->peers[i];
		uint32_t idle = LOAD(&peer->gauges.idle);
		if (idle != 0 && (!unused || idle == (uint32_t)peer->thread_count))
			woken = wake_own(peer);
	}
	return woken;
}

static int somebody_idles(struct wsgi_interpreter *interpreter)
{
	int idle = LOAD(&interpreter->gauges.idle) != 0;
	for (size_t i = 0; !idle && i < interpreter->peer_count; i++)
		idle = LOAD(&interpreter->peers[i]->gauges.idle) != 0;
	return idle;
}

/* long_time is how long a request has to take to be a long one. */
static uint64_t long_time(struct wsgi_interpreter *interpreter)
{
	uint64_t time = (uint64_t)LOAD(&interpreter->gauges.service) * LONG_TIMES;
	if (time < LONG)
		return LONG;
	return time < STUCK ? time : STUCK;
}

/* wake_for wakes somebody for what waits here, unless a worker is about to take
 * it: those that are awake look at the queue before they sleep. */
static int wake_for(struct wsgi_interpreter *interpreter)
{
	uint32_t idle = LOAD(&interpreter->gauges.idle);
	if (idle != (uint32_t)interpreter->thread_count) {
		uint64_t time = wsgi_now(), since = time - LOAD(&interpreter->taken_at);
		if (LOAD(&interpreter->gauges.spinning) != 0 || since <= STALL)
			return 0;
		if (since <= long_time(interpreter) && wsgi_interpreter_computes(interpreter, time))
			return wake_peer(interpreter, 1);
	}
	return (idle != 0 && wake_own(interpreter)) || wake_peer(interpreter, 0);
}

/* needs_guard reports whether a queued request may have to wait for a worker that
 * gets stuck, while another one sleeps or is about to. */
static int needs_guard(struct wsgi_interpreter *interpreter)
{
	return wsgi_interpreter_is_contended(interpreter) || somebody_idles(interpreter);
}

int wsgi_request_submit(struct wsgi_request *request, struct wsgi_interpreter *interpreter,
			const void *environ, size_t environ_size)
{
	if (wsgi_request_set_environ(request, environ, environ_size) != 0)
		return WSGI_SUBMIT_NO_MEMORY;
	pthread_mutex_lock(&interpreter->lock);
	if (interpreter->stopping) {
		pthread_mutex_unlock(&interpreter->lock);
		return WSGI_SUBMIT_STOPPING;
	}
	/* Where requests are rare, to look costs more than it saves. */
	int guarded = LOAD(&interpreter->gauges.service) <= GUARDED_SERVICE &&
		      wsgi_now() - LOAD(&interpreter->taken_at) < GUARDED_GAP;
	request->guarded = guarded;
	/* One that looks for a request finds this one, and no other. */
	int awaited = interpreter->queue_head == NULL && LOAD(&interpreter->gauges.spinning) != 0;
	queue_push(interpreter, request);
	pthread_mutex_unlock(&interpreter->lock);
	if (!awaited) {
		int woken = wake_for(interpreter);
		guarded |= (!woken || wsgi_interpreter_is_contended(interpreter)) &&
			   needs_guard(interpreter);
	}
	return guarded ? WSGI_SUBMIT_LEFT : 0;
}

int wsgi_interpreter_nudge(struct wsgi_interpreter *interpreter)
{
	if (LOAD(&interpreter->gauges.queued) != 0)
		wake_for(interpreter);
	/* One may have been woken for many, and be stuck in the first of them. */
	return LOAD(&interpreter->gauges.queued) != 0;
}

int wsgi_request_withdraw(struct wsgi_request *request)
{
	struct wsgi_interpreter *interpreter = LOAD(&request->queued_on);
	if (interpreter == NULL)
		return 0;
	pthread_mutex_lock(&interpreter->lock);
	int queued = request->queued_on == interpreter;
	if (queued)
		queue_remove(interpreter, request);
	pthread_mutex_unlock(&interpreter->lock);
	return queued;
}

/* ---- What a worker calls ------------------------------------------------- */

/* steal takes a request that another interpreter's workers are too busy for. */
static struct wsgi_request *steal(struct wsgi_interpreter *interpreter)
{
	struct wsgi_request *request = NULL;
	for (size_t i = 0; request == NULL && i < interpreter->peer_count; i++) {
		struct wsgi_interpreter *peer = interpreter->peers[i];
		if (LOAD(&peer->gauges.queued) == 0)
			continue;
		pthread_mutex_lock(&peer->lock);
		request = queue_pop(peer);
		pthread_mutex_unlock(&peer->lock);
	}
	return request;
}

/* rescue takes a request from an interpreter that is stuck in long ones, though
 * there is work here as well: else that might never end, and the request wait as
 * long as the others run. It does so every other time, for the same might be true
 * of the work here. */
static struct wsgi_request *rescue(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	struct wsgi_request *request = NULL;
	worker->rescues = !worker->rescues;
	if (!worker->rescues)
		return NULL;
	for (size_t i = 0; request == NULL && i < interpreter->peer_count; i++) {
		struct wsgi_interpreter *peer = interpreter->peers[i];
		if (LOAD(&peer->gauges.queued) == 0 || wsgi_now() - LOAD(&peer->taken_at) < STUCK ||
		    pthread_mutex_trylock(&peer->lock) != 0)
			continue;
		request = queue_pop(peer);
		pthread_mutex_unlock(&peer->lock);
	}
	return request;
}

static int peers_have_work(struct wsgi_interpreter *interpreter)
{
	for (size_t i = 0; i < interpreter->peer_count; i++) {
		if (LOAD(&interpreter->peers[i]->gauges.queued) != 0)
			return 1;
	}
	return 0;
}

/* look takes a request, of a peer's where there is none here, or makes the worker
 * an idle one. The interpreter's lock is held, but let go of meanwhile. */
static struct wsgi_request *look(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	struct wsgi_request *request = queue_pop(interpreter);
	if (request != NULL || interpreter->stopping)
		return request;
	/* Idle first and then a last look at the others: a request queued in
	 * between finds this worker idle and wakes it. */
	idle_push(worker);
	pthread_mutex_unlock(&interpreter->lock);
	if (peers_have_work(interpreter))
		request = steal(interpreter);
	pthread_mutex_lock(&interpreter->lock);
	if (request != NULL) {
		if (worker->idle)
			idle_remove(worker);
		else if (interpreter->queue_head != NULL)
			idle_pop(interpreter); /* hand on the wake-up */
	}
	return request;
}

/* wait_request sleeps until there is a request, or returns NULL when the
 * interpreter stops. No GIL may be held. One that has retired is idle already. */
static struct wsgi_request *wait_request(struct wsgi_worker *worker, int retired)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	struct wsgi_request *request = NULL;
	pthread_mutex_lock(&interpreter->lock);
	for (;;) {
		if (!retired)
			request = look(worker);
		if (request != NULL || (interpreter->stopping && interpreter->queue_head == NULL))
			break;
		retired = 0;
		uint64_t asleep = wsgi_now();
		while (worker->idle)
			pthread_cond_wait(&worker->wake, &interpreter->lock);
		if (wsgi_now() - asleep < interpreter->longest_spin)
			STORE(&interpreter->spin, interpreter->longest_spin);
		/* Woken for a request here, or for one of a peer's. */
		if (interpreter->queue_head == NULL && !interpreter->stopping) {
			pthread_mutex_unlock(&interpreter->lock);
			request = steal(interpreter);
			pthread_mutex_lock(&interpreter->lock);
			if (request != NULL)
				break;
		}
	}
	pthread_mutex_unlock(&interpreter->lock);
	return request;
}

/* retire makes a worker an idle one although there is work: one that computes and
 * has lost the GIL to another worker on the way, which can do the work as soon. It
 * returns 1 then. The GIL is held, so no two retire for each other. */
static int retire(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	int others = interpreter->thread_count - 1 - (int)LOAD(&interpreter->gauges.idle);
	if (others <= 0 || !wsgi_interpreter_is_contended(interpreter) ||
	    !wsgi_worker_was_interrupted(worker) || pthread_mutex_trylock(&interpreter->lock) != 0)
		return 0;
	uint64_t time = wsgi_now();
	int found = 0;
	for (int i = 0; i < interpreter->thread_count && !found; i++) {
		struct wsgi_worker *other = &interpreter->workers[i];
		found = other != worker && !other->idle && time - LOAD(&other->taken_at) < STUCK;
	}
	if (found && !interpreter->stopping)
		idle_push(worker);
	pthread_mutex_unlock(&interpreter->lock);
	return LOAD(&worker->idle);
}

/* spin waits for a request without sleeping, and so without a wake-up, for as
 * long as that has been worth it of late: where nothing comes the time is halved
 * until none is left, and it is set again where a worker that has fallen asleep
 * is woken within it. Others get the processor meanwhile. One worker of an
 * interpreter does this at a time. No GIL may be held. */
static void spin(struct wsgi_interpreter *interpreter)
{
	uint64_t time = LOAD(&interpreter->spin);
	if (time == 0 || EXCHANGE(&interpreter->gauges.spinning, 1) != 0)
		return;
	uint64_t end = wsgi_now() + time;
	while (LOAD(&interpreter->gauges.queued) == 0 && !LOAD(&interpreter->stopping) &&
	       wsgi_now() < end)
		sched_yield();
	if (LOAD(&interpreter->gauges.queued) == 0)
		STORE(&interpreter->spin, time / 2 < SHORTEST_SPIN ? 0 : time / 2);
	STORE(&interpreter->gauges.spinning, 0);
}

/* take_turns lets Go's threads run, between two requests, after a while in which
 * this worker has not slept: the kernel would let it run for some milliseconds
 * more, and every other request and Go route of the process would wait. The GIL
 * stays: whoever waits for that takes it by CPython's own rules. */
static void take_turns(struct wsgi_worker *worker, int slept)
{
	uint64_t time = wsgi_now();
	if (!slept && time - worker->turn_began > TURN) {
		sched_yield();
		worker->turn_began = time = wsgi_now();
	} else if (slept) {
		worker->turn_began = time;
	}
	STORE(&worker->taken_at, time);
	STORE(&worker->interpreter->taken_at, time);
	STORE(&worker->interpreter->latest, (uint32_t)worker->number);
}

/* speak wakes Go for what the worker has finished without. */
static void speak(struct wsgi_worker *worker)
{
	if (worker->quiet_since == 0)
		return;
	worker->quiet_since = 0;
	wsgi_completions_wake(worker->interpreter->completions);
}

/* may_be_quiet reports whether Go need not be woken for a finished request yet,
 * since another one waits that is as short as the last ones, or else somebody
 * looks: to wake Go for several at once leaves Python more of the processors. */
static int may_be_quiet(struct wsgi_worker *worker, uint64_t time)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	return LOAD(&interpreter->gauges.queued) != 0 &&
	       LOAD(&interpreter->gauges.service) <= QUIET_SERVICE &&
	       (worker->quiet_since == 0 || time - worker->quiet_since < QUIET);
}

struct wsgi_request *wsgi_queue_next(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	struct wsgi_request *request = NULL;
	int retired = retire(worker);
	if (!retired)
		request = rescue(worker);
	if (!retired && request == NULL && LOAD(&interpreter->gauges.queued) != 0 &&
	    pthread_mutex_trylock(&interpreter->lock) == 0) {
		request = queue_pop(interpreter);
		pthread_mutex_unlock(&interpreter->lock);
	}
	int sleep = request == NULL;
	if (sleep || !request->guarded)
		speak(worker);
	if (sleep) {
		py.PyEval_SaveThread();
		if (!retired)
			spin(interpreter);
		request = wait_request(worker, retired);
		py.PyEval_RestoreThread(worker->state);
		worker->switches = -1;
	}
	take_turns(worker, sleep);
	if (request != NULL)
		request->quiet_until = request->guarded ? worker->taken_at + GUARDED : 0;
	return request;
}

void wsgi_queue_done(struct wsgi_worker *worker, struct wsgi_request *request, int outcome)
{
	/* A moving mean, of which workers may overwrite each other's part. */
	uint32_t *service = &worker->interpreter->gauges.service;
	uint64_t time = wsgi_now(), took = time - worker->taken_at, mean = LOAD(service);
	wsgi_worker_took(worker, took);
	if (took > LONGEST_SERVICE)
		took = LONGEST_SERVICE;
	STORE(service, (uint32_t)(mean - mean / 8 + took / 8));

	int quiet = may_be_quiet(worker, time);
	wsgi_request_finish(request, outcome, quiet);
	if (!quiet)
		worker->quiet_since = 0;
	else if (worker->quiet_since == 0)
		worker->quiet_since = time;
}

void wsgi_queue_stop(struct wsgi_interpreter *interpreter)
{
	pthread_mutex_lock(&interpreter->lock);
	STORE(&interpreter->stopping, 1);
	while (idle_pop(interpreter)) {
	}
	pthread_mutex_unlock(&interpreter->lock);
}

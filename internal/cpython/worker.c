//go:build cgo && !windows

/* Workers and their queue. A worker is a thread bound for life to one
 * interpreter and one thread state. It runs one request after another, and
 * holds the GIL from one to the next while there is work. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_setname_np */
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interpreter.h"
#include "request.h"
#include "worker.h"

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
	ADD(&interpreter->queued, 1);
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
	ADD(&interpreter->queued, -1);
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
	ADD(&interpreter->idle_count, -1);
	worker->idle = 0;
	pthread_cond_signal(&worker->wake);
	return 1;
}

static void idle_push(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	worker->idle = 1;
	worker->next_idle = interpreter->idle;
	interpreter->idle = worker;
	ADD(&interpreter->idle_count, 1);
}

static void idle_remove(struct wsgi_worker *worker)
{
	struct wsgi_worker **link = &worker->interpreter->idle;
	while (*link != worker)
		link = &(*link)->next_idle;
	*link = worker->next_idle;
	ADD(&worker->interpreter->idle_count, -1);
	worker->idle = 0;
}

/* ---- What Go calls ------------------------------------------------------ */

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
	queue_push(interpreter, request);
	int woken = idle_pop(interpreter);
	pthread_mutex_unlock(&interpreter->lock);

	/* All its workers are busy: one that idles elsewhere may start it. */
	for (size_t i = 0; !woken && i < interpreter->peer_count; i++) {
		struct wsgi_interpreter *peer = interpreter->peers[i];
		if (LOAD(&peer->idle_count) == 0)
			continue;
		pthread_mutex_lock(&peer->lock);
		woken = idle_pop(peer);
		pthread_mutex_unlock(&peer->lock);
	}
	return 0;
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

/* ---- The worker's loop --------------------------------------------------- */

/* steal takes a request that another interpreter's workers are too busy for. */
static struct wsgi_request *steal(struct wsgi_interpreter *interpreter)
{
	struct wsgi_request *request = NULL;
	for (size_t i = 0; request == NULL && i < interpreter->peer_count; i++) {
		struct wsgi_interpreter *peer = interpreter->peers[i];
		if (LOAD(&peer->queued) == 0)
			continue;
		pthread_mutex_lock(&peer->lock);
		request = queue_pop(peer);
		pthread_mutex_unlock(&peer->lock);
	}
	return request;
}

static int peers_have_work(struct wsgi_interpreter *interpreter)
{
	for (size_t i = 0; i < interpreter->peer_count; i++) {
		if (LOAD(&interpreter->peers[i]->queued) != 0)
			return 1;
	}
	return 0;
}

/* wait_request sleeps until there is a request, or returns NULL when the
 * interpreter stops. No GIL may be held. */
static struct wsgi_request *wait_request(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	struct wsgi_request *request = NULL;
	pthread_mutex_lock(&interpreter->lock);
	for (;;) {
		request = queue_pop(interpreter);
		if (request != NULL || interpreter->stopping)
			break;
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
			break;
		}
		while (worker->idle)
			pthread_cond_wait(&worker->wake, &interpreter->lock);
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

/* next_request returns the next request, or NULL when the interpreter stops.
 * It is called with the GIL held and returns with it held, but lets go of it
 * wherever it might sleep. */
static struct wsgi_request *next_request(struct wsgi_worker *worker)
{
	struct wsgi_interpreter *interpreter = worker->interpreter;
	if (LOAD(&interpreter->queued) != 0 && pthread_mutex_trylock(&interpreter->lock) == 0) {
		struct wsgi_request *request = queue_pop(interpreter);
		pthread_mutex_unlock(&interpreter->lock);
		if (request != NULL)
			return request;
	}
	py.PyEval_SaveThread();
	struct wsgi_request *request = wait_request(worker);
	py.PyEval_RestoreThread(worker->state);
	return request;
}

void wsgi_worker_serve(struct wsgi_worker *worker)
{
	struct wsgi_request *request;
	while ((request = next_request(worker)) != NULL)
		wsgi_exchange_run(worker->interpreter, request);
}

/* run_worker is the life of each worker but the first, which also makes and
 * ends the interpreter. */
static void *run_worker(void *argument)
{
	struct wsgi_worker *worker = argument;
	struct wsgi_interpreter *interpreter = worker->interpreter;
	wsgi_worker_name(worker);
	worker->state = py.PyThreadState_New(interpreter->state);
	if (worker->state != NULL) {
		py.PyEval_RestoreThread(worker->state);
		wsgi_worker_serve(worker);
		py.PyThreadState_Clear(worker->state);
		py.PyThreadState_DeleteCurrent();
	}
	pthread_mutex_lock(&interpreter->lock);
	interpreter->live_workers--;
	pthread_cond_broadcast(&interpreter->advanced);
	pthread_mutex_unlock(&interpreter->lock);
	return NULL;
}

void wsgi_worker_name(struct wsgi_worker *worker)
{
#ifdef __linux__
	char name[16];
	snprintf(name, sizeof name, "wsgi-%d.%d", worker->interpreter->number % 1000,
		 worker->number % 1000);
	pthread_setname_np(pthread_self(), name);
#else
	(void)worker;
#endif
}

int wsgi_workers_start(struct wsgi_interpreter *interpreter)
{
	for (int i = 1; i < interpreter->thread_count; i++) {
		struct wsgi_worker *worker = &interpreter->workers[i];
		pthread_mutex_lock(&interpreter->lock);
		interpreter->live_workers++;
		pthread_mutex_unlock(&interpreter->lock);
		int error = wsgi_thread_start(&worker->thread, run_worker, worker);
		if (error != 0) {
			pthread_mutex_lock(&interpreter->lock);
			interpreter->live_workers--;
			pthread_mutex_unlock(&interpreter->lock);
			return error;
		}
		worker->running = 1;
	}
	return 0;
}

void wsgi_workers_stop(struct wsgi_interpreter *interpreter)
{
	pthread_mutex_lock(&interpreter->lock);
	interpreter->stopping = 1;
	while (idle_pop(interpreter)) {
	}
	pthread_mutex_unlock(&interpreter->lock);
}

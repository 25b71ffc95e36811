//go:build cgo && !windows

/* Workers. A worker is a thread bound for life to one
 * interpreter and one thread state. It runs one request after another, and
 * holds the GIL from one to the next while there is work. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_setname_np */
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue.h"
#include "worker.h"

void wsgi_worker_serve(struct wsgi_worker *worker)
{
	struct wsgi_request *request;
	while ((request = wsgi_queue_next(worker)) != NULL) {
		int outcome = wsgi_exchange_run(worker->interpreter, request);
		wsgi_queue_done(worker, request, outcome);
	}
}

/* run_worker is the life of each worker but the first, which also makes and
 * ends the interpreter. */
static void *run_worker(void *argument)
{
	struct wsgi_worker *worker = argument;
	struct wsgi_interpreter *interpreter = worker->interpreter;
	wsgi_worker_name(worker);
	wsgi_worker_watch(worker);
	worker->state = py.PyThreadState_New(interpreter->state);
	pthread_mutex_lock(&interpreter->lock);
	interpreter->starting_workers--;
	interpreter->stateless_workers += worker->state == NULL;
	pthread_cond_broadcast(&interpreter->advanced);
	pthread_mutex_unlock(&interpreter->lock);
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
		interpreter->starting_workers++;
		pthread_mutex_unlock(&interpreter->lock);
		int error = wsgi_thread_start(&worker->thread, run_worker, worker);
		if (error != 0) {
			pthread_mutex_lock(&interpreter->lock);
			interpreter->live_workers--;
			interpreter->starting_workers--;
			pthread_mutex_unlock(&interpreter->lock);
			return error;
		}
		worker->running = 1;
	}
	/* Each is asked whether it has what it needs: an interpreter that works with
	 * fewer threads than it was given is no success. */
	py.PyEval_SaveThread();
	pthread_mutex_lock(&interpreter->lock);
	while (interpreter->starting_workers > 0)
		pthread_cond_wait(&interpreter->advanced, &interpreter->lock);
	int error = interpreter->stateless_workers > 0 ? ENOMEM : 0;
	pthread_mutex_unlock(&interpreter->lock);
	py.PyEval_RestoreThread(interpreter->workers[0].state);
	return error;
}

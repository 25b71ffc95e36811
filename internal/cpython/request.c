//go:build cgo && !windows

/* Requests and the completion list: memory, output, waiting, waking. Nothing
 * here knows Python. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif

#include "request.h"

enum {
	KEPT_CAPACITY = 64 << 10,
	YIELDS = 20, /* before a thread sleeps until there is input */
};

uint64_t wsgi_now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

struct wsgi_completions *wsgi_completions_new(void)
{
	struct wsgi_completions *completions = calloc(1, sizeof *completions);
	if (completions == NULL)
		return NULL;
#ifdef __linux__
	int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	completions->read_descriptor = completions->write_descriptor = descriptor;
	if (descriptor < 0) {
		free(completions);
		return NULL;
	}
#else
	int ends[2];
	if (pipe(ends) != 0) {
		free(completions);
		return NULL;
	}
	for (int i = 0; i < 2; i++) {
		fcntl(ends[i], F_SETFD, FD_CLOEXEC);
		fcntl(ends[i], F_SETFL, fcntl(ends[i], F_GETFL) | O_NONBLOCK);
	}
	completions->read_descriptor = ends[0];
	completions->write_descriptor = ends[1];
#endif
	return completions;
}

void wsgi_completions_free(struct wsgi_completions *completions)
{
	if (completions->write_descriptor != completions->read_descriptor)
		close(completions->write_descriptor);
	free(completions);
}

struct wsgi_request *wsgi_request_new(struct wsgi_completions *completions, uint64_t slot)
{
	struct wsgi_request *request = calloc(1, sizeof *request);
	if (request == NULL)
		return NULL;
	request->slot = slot;
	request->completions = completions;
	pthread_mutex_init(&request->lock, NULL);
	pthread_cond_init(&request->changed, NULL);
	request->output_first = request->output_last = request->output_taken = &request->stub;
	return request;
}

/* free_records frees the records from output_first up to, not including, end. */
static void free_records(struct wsgi_request *request, struct wsgi_record *end)
{
	struct wsgi_record *record = request->output_first;
	while (record != end) {
		struct wsgi_record *next = record->next;
		if (record->allocated)
			free(record);
		record = next;
	}
	request->output_first = end;
}

/* release_above frees a buffer that is larger than what is worth keeping for
 * the next request. */
static void release_above(char **buffer, size_t *capacity, size_t kept)
{
	if (*capacity <= kept)
		return;
	free(*buffer);
	*buffer = NULL;
	*capacity = 0;
}

void wsgi_request_reset(struct wsgi_request *request)
{
	/* Files that Go never took are closed with the records that carry them. */
	struct wsgi_record *record = request->output_taken->next;
	for (; record != NULL; record = record->next) {
		if (record->kind == WSGI_RECORD_FILE && record->number >= 0)
			close(record->number);
	}
	free_records(request, NULL);
	request->stub.next = NULL;
	request->output_first = request->output_last = request->output_taken = &request->stub;
	request->output_produced = request->output_consumed = 0;
	request->output_waiting = request->gone = request->near_end = 0;
	request->arena_used = 0;
	request->flags = 0;
	request->outcome = WSGI_OUTCOME_COMPLETE;
	request->environ_size = 0;
	request->body_size = 0;
	request->streamed = request->on_demand = request->bodiless = request->early_hints = 0;
	request->ring_written = request->ring_read = 0;
	request->input_end = WSGI_INPUT_OPEN;
	request->input_waiting = request->input_wanted = request->reader_waiting = 0;
	release_above(&request->ring, &request->ring_capacity, 0); /* large, and rare */
	release_above(&request->environ, &request->environ_capacity, KEPT_CAPACITY);
	release_above(&request->body, &request->body_capacity, KEPT_CAPACITY);
}

void wsgi_request_free(struct wsgi_request *request)
{
	wsgi_request_reset(request);
	pthread_mutex_destroy(&request->lock);
	pthread_cond_destroy(&request->changed);
	free(request->environ);
	free(request->body);
	free(request);
}

static int reserve(char **buffer, size_t *capacity, size_t size)
{
	if (*capacity >= size)
		return 0;
	char *grown = malloc(size); /* the old content is of no use */
	if (grown == NULL)
		return -1;
	free(*buffer);
	*buffer = grown;
	*capacity = size;
	return 0;
}

int wsgi_request_reserve_body(struct wsgi_request *request, size_t size)
{
	return reserve(&request->body, &request->body_capacity, size);
}

int wsgi_request_reserve_ring(struct wsgi_request *request, size_t size)
{
	return reserve(&request->ring, &request->ring_capacity, size);
}

int wsgi_request_set_environ(struct wsgi_request *request, const void *environ, size_t size)
{
	if (reserve(&request->environ, &request->environ_capacity, size) != 0)
		return -1;
	if (size > 0)
		memcpy(request->environ, environ, size);
	request->environ_size = size;
	return 0;
}

/* ---- Output ------------------------------------------------------------ */

struct wsgi_record *wsgi_record_new(struct wsgi_request *request, uint32_t kind, size_t size)
{
	const size_t head = sizeof(struct wsgi_record);
	struct wsgi_record *record = NULL;
	if (size > SIZE_MAX - head)
		return NULL;
	pthread_mutex_lock(&request->lock);
	if (size <= WSGI_REQUEST_ARENA && request->arena_used + head + size <= WSGI_REQUEST_ARENA) {
		record = (struct wsgi_record *)(request->arena + request->arena_used);
		request->arena_used += (head + size + 15) & ~(size_t)15;
	}
	pthread_mutex_unlock(&request->lock);
	uint32_t allocated = record == NULL;
	if (allocated && (record = malloc(head + size)) == NULL)
		return NULL;
	*record = (struct wsgi_record){
		.kind = kind,
		.size = size,
		.data = (char *)(record + 1),
		.allocated = allocated,
	};
	return record;
}

void wsgi_record_drop(struct wsgi_record *record)
{
	if (record->allocated)
		free(record);
}

/* cost is what a record counts for against the output's limit. Small records
 * cost their header too, so that a million empty lines are bounded as well. */
static uint64_t cost(const struct wsgi_record *record)
{
	return record->size + sizeof *record;
}

void wsgi_request_add(struct wsgi_request *request, struct wsgi_record *record)
{
	pthread_mutex_lock(&request->lock);
	free_records(request, LOAD(&request->output_taken));
	STORE(&request->output_produced, request->output_produced + cost(record));
	STORE(&request->output_last->next, record);
	request->output_last = record;
	pthread_mutex_unlock(&request->lock);
}

int wsgi_request_is_gone(struct wsgi_request *request)
{
	return LOAD(&request->gone) != 0;
}

int wsgi_request_has_room(struct wsgi_request *request)
{
	return LOAD(&request->output_produced) - LOAD(&request->output_consumed) <
	       request->output_limit;
}

static int has_input(struct wsgi_request *request)
{
	return LOAD(&request->ring_written) != LOAD(&request->ring_read) ||
	       LOAD(&request->input_end) != WSGI_INPUT_OPEN;
}

/* wait_until waits until ready says so or the client has left. waiting counts
 * who waits: it is raised before the last look, so that Go, which looks in the
 * opposite order, can't miss it, and one thread that has waited long enough
 * doesn't hide another that has not. */
static void wait_until(struct wsgi_request *request, uint32_t *waiting,
		       int (*ready)(struct wsgi_request *))
{
	pthread_mutex_lock(&request->lock);
	ADD(waiting, 1);
	while (!ready(request) && !wsgi_request_is_gone(request))
		pthread_cond_wait(&request->changed, &request->lock);
	ADD(waiting, -1);
	pthread_mutex_unlock(&request->lock);
}

/* has_half reports whether at least half of the output's limit is free. */
static int has_half(struct wsgi_request *request)
{
	return LOAD(&request->output_produced) - LOAD(&request->output_consumed) <=
	       request->output_limit / 2;
}

void wsgi_request_wait_room(struct wsgi_request *request)
{
	wait_until(request, &request->output_waiting, has_half);
}

void wsgi_request_wait_input(struct wsgi_request *request)
{
	/* A client that sends without a pause has more before this thread would be
	 * asleep. */
	for (int i = 0; i < YIELDS; i++) {
		if (has_input(request) || wsgi_request_is_gone(request))
			return;
		sched_yield();
	}
	wait_until(request, &request->input_waiting, has_input);
}

void wsgi_request_wake(struct wsgi_request *request)
{
	pthread_mutex_lock(&request->lock);
	pthread_cond_broadcast(&request->changed);
	pthread_mutex_unlock(&request->lock);
}

/* ---- Completions ------------------------------------------------------- */

void wsgi_completions_wake(struct wsgi_completions *completions)
{
	if (LOAD(&completions->sleeping) && EXCHANGE(&completions->sleeping, 0)) {
		uint64_t one = 1;
		/* It can only fail because it is full, and then it wakes Go anyway. */
		while (write(completions->write_descriptor, &one, sizeof one) < 0 &&
		       errno == EINTR) {
		}
	}
}

static void post(struct wsgi_request *request, uint32_t bits, int quiet)
{
	struct wsgi_completions *completions = request->completions;
	uint32_t before = __atomic_fetch_or(&request->flags, bits, __ATOMIC_SEQ_CST);
	if ((before & WSGI_REQUEST_POSTED) == 0) {
		struct wsgi_request *head = LOAD(&completions->head);
		do {
			request->next_posted = head;
		} while (!__atomic_compare_exchange_n(&completions->head, &head, request, 1,
						      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	} /* else Go has yet to look, and will see what is new as well */
	/* From here on the request may be in other hands. */
	if (!quiet)
		wsgi_completions_wake(completions);
}

void wsgi_request_post(struct wsgi_request *request, int quiet)
{
	post(request, WSGI_REQUEST_POSTED, quiet);
}

void wsgi_request_finish(struct wsgi_request *request, int outcome, int quiet)
{
	request->outcome = outcome;
	post(request, WSGI_REQUEST_POSTED | WSGI_REQUEST_FINISHED, quiet);
}

/* The C side's own view of requests: producing output, waiting, posting. */
#ifndef WSGI_REQUEST_H
#define WSGI_REQUEST_H

#include "faults.h"
#include "gateway.h"

/* The atomics of fields that both sides touch, as gateway.h marks them. */
#define LOAD(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define ADD(p, n) __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST)
#define EXCHANGE(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)

/* wsgi_record_new makes a record with room for size bytes of data, or returns
 * NULL where memory is short. Until it is added it belongs to the caller, who
 * drops it with wsgi_record_drop. */
struct wsgi_record *wsgi_record_new(struct wsgi_request *request, uint32_t kind, size_t size);
void wsgi_record_drop(struct wsgi_record *record);

/* wsgi_request_add appends a record to the output; it is the request's now.
 * Go sees it at once, and is told of it by wsgi_request_post. */
void wsgi_request_add(struct wsgi_request *request, struct wsgi_record *record);

/* wsgi_request_post puts the request onto the completion list, so that Go
 * looks at it. With quiet set Go isn't woken for that: either something louder
 * follows soon, or Go comes by. */
void wsgi_request_post(struct wsgi_request *request, int quiet);

/* wsgi_request_finish posts the request and gives it back to Go. It must not be
 * touched after that: Go may use it anew at once. */
void wsgi_request_finish(struct wsgi_request *request, int outcome, int quiet);

/* wsgi_completions_wake wakes Go for what was posted, where it sleeps. */
void wsgi_completions_wake(struct wsgi_completions *completions);

/* wsgi_request_has_room reports whether the output may grow, that is whether
 * Go has taken enough of it, and wsgi_request_wait_room waits until Go has taken
 * half of it, so that a wake-up is worth its cost.
 * wsgi_request_wait_input waits until a streamed body has more in its ring or
 * has ended. Both end when the client leaves, and any number of threads may
 * wait. The GIL must not be held. */
int wsgi_request_has_room(struct wsgi_request *request);
void wsgi_request_wait_room(struct wsgi_request *request);
void wsgi_request_wait_input(struct wsgi_request *request);

/* wsgi_now is the time of a clock that is never set, in nanoseconds. */
uint64_t wsgi_now(void);

int wsgi_request_is_gone(struct wsgi_request *request);

/* wsgi_request_set_environ copies the packed environ: 0, or -1 where memory is
 * short. */
int wsgi_request_set_environ(struct wsgi_request *request, const void *environ, size_t size);

#endif

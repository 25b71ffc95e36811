//go:build cgo && !windows

/* Bytes that grow. */
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

int wsgi_buffer_append(struct wsgi_buffer *buffer, const char *data, size_t size)
{
	if (size == 0)
		return 0; /* data may be NULL then, which memcpy must not be given */
	if (size > buffer->capacity - buffer->size) {
		size_t capacity = buffer->capacity > 0 ? buffer->capacity : 256;
		while (capacity - buffer->size < size)
			capacity *= 2;
		char *grown = realloc(buffer->data, capacity);
		if (grown == NULL) {
			py.PyErr_NoMemory();
			return -1;
		}
		buffer->data = grown;
		buffer->capacity = capacity;
	}
	memcpy(buffer->data + buffer->size, data, size);
	buffer->size += size;
	return 0;
}

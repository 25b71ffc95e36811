//go:build cgo && !windows

package cpython

/*
#include <stdlib.h>
#include "gateway.h"

#cgo noescape wsgi_request_reset
#cgo nocallback wsgi_request_reset
#cgo noescape wsgi_request_wake
#cgo nocallback wsgi_request_wake
*/
import "C"

import (
	"os"
	"sync/atomic"
	"unsafe"
)

// recordCost is what a record counts for beside its data, on both sides.
const recordCost = C.sizeof_struct_wsgi_record

// A Request is one request on the C side. Its methods are for one goroutine,
// except those of the streamed body, which may have another.
type Request struct {
	c *C.struct_wsgi_request
}

// NewRequest makes a request, known to completions by its slot.
func (completions *Completions) NewRequest(slot uint64) (*Request, error) {
	c := C.wsgi_request_new(completions.c, C.uint64_t(slot))
	if c == nil {
		return nil, ErrNoMemory
	}
	return &Request{c: c}, nil
}

// Free releases a request that isn't submitted, or has finished.
func (r *Request) Free() {
	C.wsgi_request_free(r.c)
	r.c = nil
}

// Reset makes a request that has finished ready for another use.
func (r *Request) Reset() {
	C.wsgi_request_reset(r.c)
}

// Configure sets what the C side knows of the request beside its environ.
// contentLength is -1 for a body of unknown length.
func (r *Request) Configure(contentLength int64, outputLimit int, bodiless, earlyHints bool) {
	r.c.content_length = C.int64_t(contentLength)
	r.c.output_limit = C.uint64_t(outputLimit)
	r.c.bodiless = bit(bodiless)
	r.c.early_hints = bit(earlyHints)
}

func bit(b bool) C.uint8_t {
	if b {
		return 1
	}
	return 0
}

// Body returns memory of the given size for a body that is read before the
// request is submitted.
func (r *Request) Body(size int) ([]byte, error) {
	if C.wsgi_request_reserve_body(r.c, C.size_t(size)) != 0 {
		return nil, ErrNoMemory
	}
	r.c.body_size = C.size_t(size)
	return unsafe.Slice((*byte)(unsafe.Pointer(r.c.body)), size), nil
}

// Stream makes the body a streamed one, through a ring of the given size. With
// onDemand the request is posted each time the application waits for more.
func (r *Request) Stream(size int, onDemand bool) error {
	if C.wsgi_request_reserve_ring(r.c, C.size_t(size)) != 0 {
		return ErrNoMemory
	}
	r.c.streamed = 1
	r.c.on_demand = bit(onDemand)
	return nil
}

// Withdraw takes back a request that no worker has started, and reports
// whether it did.
func (r *Request) Withdraw() bool {
	return C.wsgi_request_withdraw(r.c) != 0
}

// Outcome says how a request ended that completions told as finished.
func (r *Request) Outcome() Outcome { return Outcome(r.c.outcome) }

// NearEnd reports whether all of the body is there and the end should follow at
// once: the application has yet to return, and its time for that is short.
func (r *Request) NearEnd() bool {
	return atomic.LoadUint32((*uint32)(&r.c.near_end)) != 0
}

// Abandon tells the application that the client is gone: its next write, or
// wait for input, fails.
func (r *Request) Abandon() {
	atomic.StoreUint32((*uint32)(&r.c.gone), 1)
	C.wsgi_request_wake(r.c)
}

// announce stores a value before its caller looks at what the C side has
// stored: one of both must see the other's. An atomic store would do, but under
// the race detector a store to memory that isn't Go's has release order only,
// so that a later load may overtake it. A swap is a full fence either way.
func announce(p *uint32, value uint32) {
	atomic.SwapUint32(p, value)
}

// ---- The output

// A Record is one piece of a request's output. Data is the C side's memory,
// valid until the record is taken.
type Record struct {
	Kind   RecordKind
	Number int
	Length int64
	Offset int64
	Data   []byte
	More   bool // another record follows at once
	c      *C.struct_wsgi_record
}

// Next returns the next record, if there is one yet. It stays the next one
// until it is taken.
func (r *Request) Next() (Record, bool) {
	taken := r.c.output_taken // set by this side only
	c := (*C.struct_wsgi_record)(atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&taken.next))))
	if c == nil {
		return Record{}, false
	}
	return Record{
		Kind:   RecordKind(c.kind),
		Number: int(c.number),
		Length: int64(c.length),
		Offset: int64(c.offset),
		Data:   unsafe.Slice((*byte)(unsafe.Pointer(c.data)), int(c.size)),
		More:   c.more != 0,
		c:      c,
	}, true
}

// Take says that the record has been dealt with, which makes room for more.
func (r *Request) Take(record Record) {
	atomic.StorePointer((*unsafe.Pointer)(unsafe.Pointer(&r.c.output_taken)), unsafe.Pointer(record.c))
	consumed := atomic.AddUint64((*uint64)(&r.c.output_consumed), uint64(len(record.Data))+recordCost)
	if atomic.LoadUint32((*uint32)(&r.c.output_waiting)) == 0 {
		return
	}
	// The C side counts itself in before it looks, and is woken when it has half
	// of the limit before it: not for each record.
	if atomic.LoadUint64((*uint64)(&r.c.output_produced))-consumed <= uint64(r.c.output_limit)/2 {
		C.wsgi_request_wake(r.c)
	}
}

// ---- The streamed body: for the goroutine that reads it

// Wanted reports whether the application has asked for the body.
func (r *Request) Wanted() bool {
	return atomic.LoadUint32((*uint32)(&r.c.input_wanted)) != 0
}

// TakeWanted is Wanted for a body that is read on demand: it is true once for
// each time that the application waits.
func (r *Request) TakeWanted() bool {
	return atomic.SwapUint32((*uint32)(&r.c.input_wanted), 0) != 0
}

// Writable returns a piece of the ring to read into. Where the ring is full it
// returns nil, and the request is posted once there is room.
func (r *Request) Writable() []byte {
	if p := r.writable(); p != nil {
		return p
	}
	// Said before the last look: the C side looks in the opposite order.
	announce((*uint32)(&r.c.reader_waiting), 1)
	p := r.writable()
	if p != nil {
		atomic.StoreUint32((*uint32)(&r.c.reader_waiting), 0)
	}
	return p
}

func (r *Request) writable() []byte {
	size := uint64(r.c.ring_capacity)
	written := uint64(r.c.ring_written) // set by this side only
	used := written - atomic.LoadUint64((*uint64)(&r.c.ring_read))
	if used == size {
		return nil
	}
	start := written % size
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(r.c.ring), start)), min(size-used, size-start))
}

// Wrote says how much of the piece has been filled.
func (r *Request) Wrote(n int) {
	atomic.AddUint64((*uint64)(&r.c.ring_written), uint64(n))
	r.wakeInput()
}

// EndInput says how the body ended.
func (r *Request) EndInput(end InputEnd) {
	announce((*uint32)(&r.c.input_end), uint32(end))
	r.wakeInput()
}

func (r *Request) wakeInput() {
	if atomic.LoadUint32((*uint32)(&r.c.input_waiting)) != 0 {
		C.wsgi_request_wake(r.c)
	}
}

// ---- Completions

// Completions tells which requests have something new.
type Completions struct {
	c    *C.struct_wsgi_completions
	file *os.File
	buf  [512]byte
}

// NewCompletions makes an empty list and its descriptor.
func NewCompletions() (*Completions, error) {
	c := C.wsgi_completions_new()
	if c == nil {
		return nil, ErrNoMemory
	}
	return &Completions{c: c, file: os.NewFile(uintptr(c.read_descriptor), "wsgi completions")}, nil
}

// Wait blocks until a request may have something new, or returns an error
// after Close.
func (completions *Completions) Wait() error {
	sleeping := (*uint32)(&completions.c.sleeping)
	if completions.Pending() {
		return nil
	}
	// Said before the last look: the C side looks in the opposite order.
	announce(sleeping, 1)
	if completions.Pending() {
		atomic.StoreUint32(sleeping, 0)
		return nil
	}
	_, err := completions.file.Read(completions.buf[:])
	return err
}

// Pending reports whether there is anything to Drain.
func (completions *Completions) Pending() bool {
	return atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&completions.c.head))) != nil
}

// Claim takes the place of whoever is blocked in Wait, if somebody is: until
// Disclaim, workers wake nobody, and the caller has to look for what is Pending.
func (completions *Completions) Claim() bool {
	return atomic.SwapUint32((*uint32)(&completions.c.sleeping), 0) != 0
}

// Disclaim gives the place back. Look for what is Pending once more after that:
// it was posted while nobody was to be woken.
func (completions *Completions) Disclaim() {
	announce((*uint32)(&completions.c.sleeping), 1)
}

// Drain yields the slot of each request that has something new, and whether it
// has finished; one that has is touched by the C side no more. Several
// goroutines may drain at once.
func (completions *Completions) Drain(yield func(slot uint64, finished bool)) {
	head := (*unsafe.Pointer)(unsafe.Pointer(&completions.c.head))
	c := (*C.struct_wsgi_request)(atomic.SwapPointer(head, nil))
	// The list has the latest first: turn it round, so that nobody waits longer
	// than those who came later. Until its flags are cleared a request is ours.
	var first *C.struct_wsgi_request
	for c != nil {
		c, c.next_posted, first = c.next_posted, first, c
	}
	for first != nil {
		c, first = first, first.next_posted
		slot := uint64(c.slot)
		flags := atomic.SwapUint32((*uint32)(&c.flags), 0)
		yield(slot, flags&C.WSGI_REQUEST_FINISHED != 0)
	}
}

// Close ends Wait.
func (completions *Completions) Close() error {
	return completions.file.Close()
}

// Free releases the list after Close, when no request and no interpreter uses
// it any more and Wait has returned.
func (completions *Completions) Free() {
	C.wsgi_completions_free(completions.c)
	completions.c = nil
}

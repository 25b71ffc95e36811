package pool

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func packed(e *Environ) (all []string) {
	for key, value := range e.All() {
		all = append(all, key, value)
	}
	return all
}

func TestEnvironGivesBackWhatWasSet(t *testing.T) {
	var e Environ
	want := []string{
		"REQUEST_METHOD", "GET",
		"my.key", "",
		"", "a value without a name",
		"REQUEST_METHOD", "twice",
		"HTTP_X", strings.Repeat("long ", 100_000),
		"bytes \xff\x00", "\x00\xff",
	}
	for _, key := range wellKnownKeys[1:] {
		want = append(want, key, "of "+key)
	}
	for i := 0; i < len(want); i += 2 {
		e.Set(want[i], want[i+1])
	}
	if got := packed(&e); !slices.Equal(got, want) {
		t.Errorf("got %.300q", got)
	}
	if e.Err() != nil {
		t.Error(e.Err())
	}
	for range e.All() {
		break // an iteration may end early
	}
	e.Reset()
	if e.Len() != 0 || len(packed(&e)) != 0 {
		t.Errorf("after Reset there are %d bytes", e.Len())
	}
}

func TestEnvironKnowsEachKeyOnce(t *testing.T) {
	if len(wellKnownKeys) > 1<<(32-keyIDShift) {
		t.Errorf("%d keys, of which one byte can't tell", len(wellKnownKeys))
	}
	if len(keyIDs) != len(wellKnownKeys)-1 {
		t.Errorf("%d names for %d keys", len(keyIDs), len(wellKnownKeys)-1)
	}
}

// TestEnvironLeavesOutWhatItCannotPack, and takes the rest.
func TestEnvironLeavesOutWhatItCannotPack(t *testing.T) {
	var e Environ
	e.Set("a", "1")
	e.Set(strings.Repeat("k", 1<<keyIDShift), "2")
	e.Set("b", "3")
	if got := packed(&e); !slices.Equal(got, []string{"a", "1", "b", "3"}) {
		t.Errorf("got %.100q", got)
	}
	if !errors.Is(e.Err(), ErrTooLong) {
		t.Errorf("Err is %v", e.Err())
	}
	longest := strings.Repeat("k", 1<<keyIDShift-1)
	e.Reset()
	e.Set(longest, "x")
	if got := packed(&e); e.Err() != nil || !slices.Equal(got, []string{longest, "x"}) {
		t.Errorf("the longest name: %v", e.Err())
	}
}

func TestEnvironAllocatesNothingOnceItHasMemory(t *testing.T) {
	var e Environ
	fill := func() {
		e.Reset()
		for _, key := range wellKnownKeys[1:] {
			e.Set(key, "value")
		}
		e.Set("another.key", "value")
	}
	fill()
	if n := testing.AllocsPerRun(100, fill); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestQueueKeepsItsOrder(t *testing.T) {
	var l callList
	calls := make([]*Call, 5)
	for i := range calls {
		calls[i] = new(Call)
		l.push(calls[i])
	}
	for _, i := range []int{0, 2, 4} { // first, middle, last
		l.remove(calls[i])
		if calls[i].waiting || calls[i].prev != nil || calls[i].next != nil {
			t.Errorf("call %d is still in the list", i)
		}
	}
	l.push(calls[2])
	for _, i := range []int{1, 3, 2} {
		if got := l.pop(); got != calls[i] {
			t.Errorf("call %d did not come in its turn", i)
		}
	}
	if l.pop() != nil || l.first != nil || l.last != nil {
		t.Error("the list isn't empty")
	}
}

func TestIsolationsHaveNames(t *testing.T) {
	for mode, want := range map[Isolation]string{
		Auto: "Auto", OwnGIL: "OwnGIL", Main: "Main", SharedGIL: "SharedGIL", 7: "Isolation(7)",
	} {
		if got := mode.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

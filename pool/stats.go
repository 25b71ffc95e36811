package pool

// Stats is a snapshot of a pool's counters, which only grow, and gauges.
type Stats struct {
	Isolation Isolation // the mode in force: what Auto chose
	Requests  uint64    // handed to an interpreter
	Errors    uint64    // of those, failed, cut short, or left by their client
	Rejected  uint64    // refused because the queue was full
	InFlight  int       // now with an interpreter
	Queued    int       // now waiting for one

	Interpreters []InterpreterStats
}

// InterpreterStats is the part of Stats that is one interpreter's. A request
// counts for the interpreter that it was handed to, even where an idle one
// came to its help.
type InterpreterStats struct {
	Threads  int
	Requests uint64
	Errors   uint64
	InFlight int
}

// Stats returns the pool's counters as of now.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Isolation: p.isolation, Rejected: p.rejected, Queued: p.queued}
	for _, m := range p.members {
		s.Requests += m.requests
		s.Errors += m.errors
		s.InFlight += m.inFlight
		s.Interpreters = append(s.Interpreters, InterpreterStats{
			Threads:  p.threads,
			Requests: m.requests,
			Errors:   m.errors,
			InFlight: m.inFlight,
		})
	}
	return s
}

//go:build !cgo || windows

package cpython

// The same names as with cgo, so that the packages above compile. Start fails,
// so nothing else is ever reached.

const Supported = false

type Runtime struct {
	Library string
	Version Version
	Joined  bool
}

func Start(*Installation) (*Runtime, error) { return nil, ErrUnsupported }

func (*Runtime) NewInterpreter(*Completions, InterpreterConfig) (*Interpreter, error) {
	return nil, ErrUnsupported
}

type Interpreter struct{}

func (*Interpreter) SetPeers([]*Interpreter) error         { return ErrUnsupported }
func (*Interpreter) Start() error                          { return ErrUnsupported }
func (*Interpreter) Stop() error                           { return ErrUnsupported }
func (*Interpreter) Free()                                 {}
func (*Interpreter) Nudge() bool                           { return false }
func (*Interpreter) Gauges() Gauges                        { return Gauges{} }
func (*Interpreter) Submit(*Request, []byte) (bool, error) { return false, ErrUnsupported }

type Record struct {
	Kind   RecordKind
	Number int
	Length int64
	Offset int64
	Data   []byte
	More   bool
}

type Request struct{}

func (*Request) Free()                            {}
func (*Request) Reset()                           {}
func (*Request) Configure(int64, int, bool, bool) {}
func (*Request) Body(int) ([]byte, error)         { return nil, ErrUnsupported }
func (*Request) Stream(int, bool) error           { return ErrUnsupported }
func (*Request) Withdraw() bool                   { return false }
func (*Request) Outcome() Outcome                 { return Failed }
func (*Request) NearEnd() bool                    { return false }
func (*Request) Abandon()                         {}
func (*Request) Next() (Record, bool)             { return Record{}, false }
func (*Request) Take(Record)                      {}
func (*Request) TakeWanted() bool                 { return false }
func (*Request) Wanted() bool                     { return false }
func (*Request) Writable() []byte                 { return nil }
func (*Request) Wrote(int)                        {}
func (*Request) EndInput(InputEnd)                {}

type Completions struct{}

func NewCompletions() (*Completions, error)                 { return nil, ErrUnsupported }
func (*Completions) NewRequest(uint64) (*Request, error)    { return nil, ErrUnsupported }
func (*Completions) Claim() bool                            { return false }
func (*Completions) Disclaim()                              {}
func (*Completions) Pending() bool                          { return false }
func (*Completions) Wait() error                            { return ErrUnsupported }
func (*Completions) Drain(func(slot uint64, finished bool)) {}
func (*Completions) Close() error                           { return nil }
func (*Completions) Free()                                  {}

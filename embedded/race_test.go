//go:build race

package embedded

// raceEnabled reports whether the race detector is on.
const raceEnabled = true

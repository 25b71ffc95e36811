package cpython

import (
	"path/filepath"
	"testing"
)

// TestFindFileNames has an interpreter in a folder whose name isn't text, which
// other systems don't allow.
func TestFindFileNames(t *testing.T) {
	base := discoveredPythons(t)[0]
	link := filepath.Join(t.TempDir(), "caf\xe9 \u20ac", "python3")
	symlink(t, base.Executable, link)
	if got := mustFind(t, link); got.Executable != link || got.BasePrefix != base.BasePrefix {
		t.Errorf("found %q with the prefix %q, want %q with %q", got.Executable, got.BasePrefix, link, base.BasePrefix)
	}
}

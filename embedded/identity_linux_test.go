package embedded

import (
	"io/fs"
	"syscall"
)

// identity returns what changes when a file is replaced or written to.
func identity(info fs.FileInfo) any {
	st := info.Sys().(*syscall.Stat_t)
	return []any{st.Ino, st.Ctim}
}

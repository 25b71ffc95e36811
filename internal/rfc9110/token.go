// Package rfc9110 has the parts of HTTP's grammar that several packages parse.
package rfc9110

import "strings"

// IsTokenByte reports whether c may be in a token (RFC 9110, section 5.6.2).
func IsTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// IsToken reports whether s is a token, as methods and header names are.
func IsToken(s string) bool {
	for i := range len(s) {
		if !IsTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

package cpython

import (
	"testing"
)

func TestParseVersion(t *testing.T) {
	for _, test := range []struct {
		text string
		want Version
		str  string
	}{
		{"3.14.6 (main, Jun 11 2026, 20:01:02) [Clang 20.1.4 ]", Version{3, 14, 6, ""}, "3.14.6"},
		{"3.15.0a2+ (heads/main:1234567, ...) [GCC]", Version{3, 15, 0, "a2+"}, "3.15.0a2+"},
		{"3.13.2+", Version{3, 13, 2, "+"}, "3.13.2+"},
		{"2.7.18 (default, ...)\n[GCC 12.2.0]", Version{2, 7, 18, ""}, "2.7.18"},
		{"3.8.5 | packaged by conda-forge | (default)", Version{3, 8, 5, ""}, "3.8.5"},
	} {
		got, err := ParseVersion(test.text)
		if err != nil || got != test.want || got.String() != test.str {
			t.Errorf("ParseVersion(%q) = %#v %q, %v; want %#v %q", test.text, got, got, err, test.want, test.str)
		}
	}
	for _, text := range []string{"", "3", "3.11", "3.11.", "three", "3.x.1", "-3.1.1", "99999999999999999999.1.1"} {
		if got, err := ParseVersion(text); err == nil {
			t.Errorf("ParseVersion(%q) = %v, no error", text, got)
		}
	}
	v := Version{Major: 3, Minor: 12}
	if !v.AtLeast(3, 12) || !v.AtLeast(3, 9) || !v.AtLeast(2, 13) || v.AtLeast(3, 13) || v.AtLeast(4, 0) {
		t.Error("AtLeast is wrong about 3.12")
	}
}

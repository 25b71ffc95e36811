package wsgi_test

import (
	"encoding/json"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var (
	fuzzStatus = regexp.MustCompile(`^[2-9][0-9][0-9] `)
	fuzzToken  = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")
	fuzzLength = regexp.MustCompile(`^[0-9]{1,18}$`)
	hopByHop   = []string{"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
		"te", "trailer", "trailers", "transfer-encoding", "upgrade"}
)

// isHeaderText is what PEP 3333 says of statuses and values: characters that
// stand for bytes, and no control characters.
func isHeaderText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r > 0xff })
}

// FuzzStatusAndHeaders gives start_response any status, name and value: those
// that the rules allow come out as they went in, and all others are refused.
func FuzzStatusAndHeaders(f *testing.F) {
	for _, seed := range [][3]string{
		{"200 OK", "X-A", "b"},
		{"404 ", "Content-Length", "007"},
		{"99 No", "X A", "b\r\nX-B: c"},
		{"200 \u20ac", "Transfer-Encoding", "chunked"},
		{"1000 x", "X-\u00e9", "\u00e9\u0080"},
		{"299 \x00", "", "\x7f"},
		{"200", "Set-Cookie", "\u0100"},
		{"200 x", "Content-Length", "1234567890123456789"},
		{"204 x", "content-length", "007"},
		{"304 x", "Content-Length", "7"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	app, _, _ := newApp(f, `
import json

def application(environ, start_response):
    status, name, value = json.loads(environ["wsgi.input"].read())
    try:
        start_response(status, [(name, value)])
    except ValueError as error:
        start_response("200 OK", [("X-Refused", "yes")])
    return []
`, one(1)...)
	f.Fuzz(func(t *testing.T, status, name, value string) {
		if !utf8.ValidString(status) || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return // no text
		}
		valid := fuzzStatus.MatchString(status) && isHeaderText(status) && fuzzToken.MatchString(name) && isHeaderText(value) &&
			!slices.Contains(hopByHop, strings.ToLower(name)) &&
			(!strings.EqualFold(name, "Content-Length") || fuzzLength.MatchString(value))
		body, err := json.Marshal([]string{status, name, value})
		if err != nil {
			t.Fatal(err)
		}
		resp, _ := record(t, app, "POST", "/", strings.NewReader(string(body)))
		if !valid {
			if resp.Header.Get("X-Refused") == "" {
				t.Errorf("%q, %q: %q was taken: %d %v", status, name, value, resp.StatusCode, resp.Header)
			}
			return
		}
		if strings.EqualFold(name, "Content-Length") && (status[:3] == "204" || status[:3] == "304") {
			if len(resp.Header["Content-Length"]) > 0 {
				t.Errorf("%q has the Content-Length %q", status, resp.Header["Content-Length"])
			}
			return // which neither may tell: RFC 9110, section 8.6
		}
		var latin1 []byte
		for _, r := range value {
			latin1 = append(latin1, byte(r))
		}
		if got := resp.Header[textproto.CanonicalMIMEHeaderKey(name)]; len(got) != 1 || got[0] != string(latin1) ||
			resp.StatusCode != int(status[0]-'0')*100+int(status[1]-'0')*10+int(status[2]-'0') {
			t.Errorf("%q, %q: %q became %d %v", status, name, value, resp.StatusCode, resp.Header)
		}
	})
}

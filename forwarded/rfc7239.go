package forwarded

import (
	"strings"

	"github.com/seed-a2d07992/wsgi/internal/rfc9110"
)

// elements are those of a Forwarded header, in order, each with its parameters
// by their names in lower case.
type elements []map[string]string

// column returns the named parameter of each element, "" where it has none.
func (es elements) column(name string) []string {
	values := make([]string, len(es))
	for i, element := range es {
		values[i] = element[name]
	}
	return values
}

// parseForwarded parses the values of the header Forwarded (RFC 7239, section 4). It
// reports false for a syntax error in any of them: past one it can't be known where
// an element ends, and a client that sends half a quotation could have the
// elements of proxies taken for its own.
func parseForwarded(values []string) (elements, bool) {
	var es elements
	for _, value := range values {
		p := parser{rest: value}
		for {
			element, ok := p.element()
			if !ok {
				return nil, false
			}
			if len(element) > 0 {
				es = append(es, element)
			}
			if p.rest == "" {
				break
			}
			if !p.skip(',') {
				return nil, false
			}
		}
	}
	return es, true
}

// A parser holds what it has not read yet.
type parser struct{ rest string }

// element reads pairs up to the next comma or the end. Both an element and a pair
// may be empty.
func (p *parser) element() (map[string]string, bool) {
	element := make(map[string]string)
	for {
		p.space()
		if name := strings.ToLower(p.token()); name != "" {
			if !p.skip('=') {
				return nil, false
			}
			value, ok := p.value()
			if _, twice := element[name]; !ok || twice {
				return nil, false
			}
			element[name] = value
		}
		p.space()
		if !p.skip(';') {
			return element, p.rest == "" || p.rest[0] == ','
		}
	}
}

// value reads a token or a quoted string (RFC 9110, section 5.6.4). A node with a
// colon has to be quoted; proxies that forget to are understood.
func (p *parser) value() (string, bool) {
	if !p.skip('"') {
		end := 0
		for end < len(p.rest) && (rfc9110.IsTokenByte(p.rest[end]) || strings.IndexByte(":[]/", p.rest[end]) >= 0) {
			end++
		}
		value := p.rest[:end]
		p.rest = p.rest[end:]
		return value, value != ""
	}
	var value []byte
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return string(value), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			value = append(value, p.rest[i])
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", false
		default:
			value = append(value, c)
		}
	}
	return "", false
}

func (p *parser) token() string {
	end := 0
	for end < len(p.rest) && rfc9110.IsTokenByte(p.rest[end]) {
		end++
	}
	token := p.rest[:end]
	p.rest = p.rest[end:]
	return token
}

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *parser) skip(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

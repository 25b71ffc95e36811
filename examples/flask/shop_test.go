package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A client sends requests to the program's routes over HTTP.
type client struct {
	*http.Client
	url string
}

// serveShop starts the application with an empty database.
func serveShop(t *testing.T) *client {
	t.Helper()
	app, err := start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(routes(app))
	t.Cleanup(func() {
		server.Close()
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return newClient(server.URL)
}

func newClient(url string) *client {
	// Connections are kept, since a client that has its answer and hangs up at
	// once may count as one that left.
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	return &client{&http.Client{Transport: transport, Timeout: time.Minute}, url}
}

// do sends a request and returns the answer with its body read.
func (c *client) do(method, path, body string, header ...string) (*http.Response, string, error) {
	r, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp, string(data), err
}

// expect fails the test unless the answer has the status and the media type,
// and decodes its JSON into v, if there is one.
func (c *client) expect(t *testing.T, status int, mediaType string, v any, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	resp, text, err := c.do(method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	got, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if resp.StatusCode != status || got != mediaType {
		t.Fatalf("%s %s %s: %s, %s\n%s\nwant %d, %s", method, path, body, resp.Status, got, text, status, mediaType)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatalf("%s %s %s: %v\n%s", method, path, body, err, text)
		}
	}
	return resp, text
}

const (
	isJSON = "application/json"
	isHTML = "text/html"
	isText = "text/plain"
)

var sendJSON = []string{"Content-Type", isJSON}

type order struct {
	ID         int    `json:"id"`
	Customer   string `json:"customer"`
	Created    string `json:"created"`
	TotalCents int    `json:"total_cents"`
	Items      []item `json:"items"`
}

type item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Cents    int    `json:"cents"`
}

type problem struct {
	Error  string            `json:"error"`
	Detail string            `json:"detail"`
	Fields map[string]string `json:"fields"`
}

func TestOrders(t *testing.T) {
	c := serveShop(t)
	var list struct {
		Orders []order `json:"orders"`
	}
	c.expect(t, 200, isJSON, &list, "GET", "/api/orders", "")
	if list.Orders == nil || len(list.Orders) != 0 {
		t.Errorf("the new shop has orders: %v", list.Orders)
	}

	var created, shown order
	resp, _ := c.expect(t, 201, isJSON, &created, "POST", "/api/orders",
		`{"customer": "Zoë <b>", "items": [{"sku": "tea", "quantity": 2, "cents": 450}, {"sku": "cup", "quantity": 1, "cents": 990}]}`, sendJSON...)
	c.expect(t, 200, isJSON, &shown, "GET", resp.Header.Get("Location"), "")
	for _, o := range []order{created, shown} {
		want := []item{{"tea", 2, 450}, {"cup", 1, 990}}
		if o.Customer != "Zoë <b>" || o.TotalCents != 1890 || o.Created == "" || !slices.Equal(o.Items, want) {
			t.Errorf("the order is %+v", o)
		}
	}
	c.expect(t, 201, isJSON, nil, "POST", "/api/orders",
		`{"customer": "Ada", "items": [{"sku": "tea", "quantity": 1, "cents": 450}]}`, sendJSON...)

	for query, want := range map[string]string{
		"":                           "Ada, Zoë <b>",
		"?limit=1":                   "Ada",
		"?customer=Zo%C3%AB+%3Cb%3E": "Zoë <b>",
		"?customer=Eve":              "",
	} {
		c.expect(t, 200, isJSON, &list, "GET", "/api/orders"+query, "")
		var names []string
		for _, o := range list.Orders {
			names = append(names, o.Customer)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("GET /api/orders%s: %s, want %s", query, got, want)
		}
	}

	_, page := c.expect(t, 200, isHTML, nil, "GET", "/", "")
	for _, want := range []string{
		"<h1>Orders</h1>", "Flask on Python 3.14.", `href="/api/orders"`, `href="/go"`,
		"<td>Zoë &lt;b&gt;</td>", "<td>18.90</td>", `<a href="/api/orders/2">2</a>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s:\n%s", want, page)
		}
	}
}

func TestErrors(t *testing.T) {
	c := serveShop(t)
	const one = `{"sku": "tea", "quantity": 1, "cents": 1}`
	for body, want := range map[string][]string{
		`[]`:                               {""},
		`{}`:                               {"customer", "items"},
		`{"customer": " ", "items": []}`:   {"customer", "items"},
		`{"customer": 7, "items": "many"}`: {"customer", "items"},
		`{"customer": "\ud800", "items": [` + one + `]}`:                                           {"customer"},
		`{"customer": "Ada", "items": [` + one + `, 7]}`:                                           {"items[1]"},
		`{"customer": "Ada", "items": [{}]}`:                                                       {"items[0].sku", "items[0].quantity", "items[0].cents"},
		`{"customer": "Ada", "items": [{"sku": "", "quantity": 0, "cents": -1}]}`:                  {"items[0].sku", "items[0].quantity", "items[0].cents"},
		`{"customer": "Ada", "items": [{"sku": "tea", "quantity": true, "cents": 1.5}]}`:           {"items[0].quantity", "items[0].cents"},
		`{"customer": "Ada", "items": [{"sku": "tea", "quantity": 1000000000000, "cents": 1000}]}`: {"items[0].quantity"},
	} {
		var p problem
		c.expect(t, 422, isJSON, &p, "POST", "/api/orders", body, sendJSON...)
		got := slices.Sorted(maps.Keys(p.Fields))
		slices.Sort(want)
		if p.Error == "" || !slices.Equal(got, want) {
			t.Errorf("POST %s: %q, fields %q, want %q", body, p.Error, got, want)
		}
	}

	for _, test := range []struct {
		status             int
		method, path, body string
		header             []string
		want               string
	}{
		{400, "POST", "/api/orders", `{"customer":`, sendJSON, "Bad Request"},
		{415, "POST", "/api/orders", "customer=Ada", []string{"Content-Type", "application/x-www-form-urlencoded"}, "Unsupported Media Type"},
		{404, "GET", "/api/orders/7", "", nil, "there is no order 7"},
		{404, "GET", "/api/orders/99999999999999999999", "", nil, "Not Found"},
		{404, "GET", "/no/such/page", "", nil, "Not Found"},
		{422, "GET", "/api/orders?limit=0", "", nil, "not valid"},
		{422, "GET", "/api/orders?limit=many", "", nil, "not valid"},
	} {
		var p problem
		c.expect(t, test.status, isJSON, &p, test.method, test.path, test.body, test.header...)
		if !strings.Contains(p.Error+p.Detail, test.want) {
			t.Errorf("%s %s: %+v, want %q", test.method, test.path, p, test.want)
		}
	}
	resp, _ := c.expect(t, 405, isJSON, nil, "DELETE", "/api/orders/1", "")
	if allow := resp.Header.Get("Allow"); !strings.Contains(allow, "GET") || strings.Contains(allow, "POST") {
		t.Errorf("Allow: %s", allow)
	}
}

// TestStartFails checks what New says of a factory that raises.
func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	// A folder can't be opened as a database.
	if err := os.Mkdir(filepath.Join(dir, "shop.sqlite"), 0o755); err != nil {
		t.Fatal(err)
	}
	app, err := start(t.Context(), dir)
	if err == nil {
		app.Close()
		t.Fatal("it started without a database")
	}
	for _, want := range []string{"Traceback", "database.py", "sqlite3.OperationalError: unable to open database file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

// TestConcurrently places and reads orders and asks Go, all at once.
func TestConcurrently(t *testing.T) {
	c := serveShop(t)
	const clients, each = 8, 5
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			for j := range each {
				customer := fmt.Sprintf("client-%d-%d", i, j)
				resp, text, err := c.do("POST", "/api/orders", fmt.Sprintf(
					`{"customer": %q, "items": [{"sku": "tea", "quantity": %d, "cents": 100}]}`, customer, j+1), sendJSON...)
				if err != nil || resp.StatusCode != 201 {
					t.Errorf("placing the order of %s: %s, %v", customer, text, err)
					return
				}
				var o order
				_, text, err = c.do("GET", resp.Header.Get("Location"), "")
				if err == nil {
					err = json.Unmarshal([]byte(text), &o)
				}
				if err != nil || o.Customer != customer || o.TotalCents != 100*(j+1) {
					t.Errorf("the order of %s: %s, %v", customer, text, err)
				}
				if resp, text, err := c.do("GET", "/go", ""); err != nil || resp.StatusCode != 200 || text != "Hello from "+runtime.Version()+"!\n" {
					t.Errorf("GET /go: %q, %v", text, err)
				}
				if _, text, err := c.do("GET", "/", ""); err != nil || !strings.Contains(text, "<td>client-") {
					t.Errorf("GET /: %q, %v", text, err)
				}
			}
		})
	}
	group.Wait()

	var list struct {
		Orders []order `json:"orders"`
	}
	c.expect(t, 200, isJSON, &list, "GET", "/api/orders?limit=100", "")
	if len(list.Orders) != clients*each {
		t.Errorf("there are %d orders, want %d", len(list.Orders), clients*each)
	}
	var stats struct{ Requests, Errors int }
	c.expect(t, 200, isJSON, &stats, "GET", "/go/stats", "")
	if want := clients*each*3 + 1; stats.Requests != want || stats.Errors != 0 {
		t.Errorf("%d requests with %d errors reached Python, want %d without", stats.Requests, stats.Errors, want)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results is what results.json holds.
type results struct {
	Date     string        `json:"date"`
	Machine  string        `json:"machine"`
	Cores    int           `json:"cores"`
	Versions []string      `json:"versions"`
	Rounds   int           `json:"rounds"`
	Turn     time.Duration `json:"turn_ns"`

	// The parts of all cores' time that the load generator took, between the
	// least and the most of all turns.
	LoadShare [2]float64 `json:"load_share"`

	// Instructions of one small request between Go's submitting and resetting it.
	Instructions counts `json:"instructions"`

	Ratios []*ratio `json:"ratios"`
}

// report writes the results in the three forms in which they are read.
func report(dir string, b *bench, measured []*ratio, instructions counts, rounds int, seconds time.Duration) error {
	res := results{
		Date:     time.Now().UTC().Format(time.DateOnly),
		Machine:  machine(),
		Cores:    b.cores,
		Versions: b.versions(),
		Rounds:   rounds,
		Turn:     seconds * time.Second,
		Ratios:   measured,

		Instructions: instructions,
	}
	if len(b.shares) > 0 {
		res.LoadShare = [2]float64{slices.Min(b.shares), slices.Max(b.shares)}
	}
	data, err := json.MarshalIndent(res, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(data, '\n'), 0o666); err != nil {
		return err
	}
	return draw(dir)
}

// draw writes the table and the chart of the results in results.json.
func draw(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		return err
	}
	var res results
	if err := json.Unmarshal(data, &res); err != nil {
		return fmt.Errorf("results.json: %w", err)
	}
	var picture strings.Builder
	if err := chart.Execute(&picture, bars(res)); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"results.md": table(res),
		"chart.svg":  picture.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			return err
		}
	}
	return nil
}

func table(res results) string {
	var s strings.Builder
	fmt.Fprintf(&s, "Measured on %s: %s, %d cores. %d rounds of %v for each side, in turns; medians, and the range of the rounds. The load generator is on the same cores and took %.0f to %.0f %% of them.\n\n",
		res.Date, res.Machine, res.Cores, res.Rounds, res.Turn, 100*res.LoadShare[0], 100*res.LoadShare[1])
	fmt.Fprintf(&s, "%s.\n\n", strings.Join(res.Versions, ", "))
	s.WriteString("| | measured | range | target |\n|---|---|---|---|\n")
	for _, r := range res.Ratios {
		if r.Missing != "" {
			reason, _, _ := strings.Cut(r.Missing, "\n")
			fmt.Fprintf(&s, "| %s | missing | %s | %s |\n", r.What, reason, r.bound())
			continue
		}
		fmt.Fprintf(&s, "| %s | %.2f%s | %.2f to %.2f | %s |\n", r.What, r.Value, r.unit(), r.Low, r.High, r.bound())
	}
	fmt.Fprintf(&s, "\nOne small request takes %.0f instructions between Go's submitting it to Python and its end, %.0f of them in the library's C code, and the others in CPython, the application and libc.\n",
		res.Instructions.All, res.Instructions.Own)
	return s.String()
}

// bound is the target and whether it was reached.
func (r *ratio) bound() string {
	switch {
	case r.Target == 0:
		return "none"
	case r.Missing != "":
		return fmt.Sprintf("%g%s", r.Target, r.unit())
	case r.AtMost:
		return fmt.Sprintf("≤ %g%s: %s", r.Target, r.unit(), r.verdict())
	}
	return fmt.Sprintf("≥ %g%s: %s", r.Target, r.unit(), r.verdict())
}

func (r *ratio) unit() string {
	if r.Unit == "" {
		return ""
	}
	return " " + r.Unit
}

func machine() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// versions tells what was measured, as far as it can be asked.
func (b *bench) versions() []string {
	list := []string{runtime.Version()}
	const script = `import importlib.metadata as m, platform
print("CPython " + platform.python_version())
for d in sorted(m.distributions(), key=lambda d: d.name.lower()):
    if d.name.lower() in ("flask", "django", "gunicorn", "granian", "waitress", "caddysnake", "pyvoy", "werkzeug", "bjoern", "fastwsgi"):
        print(d.name + " " + d.version)`
	for _, question := range []struct {
		note    string
		command []string
		answer  string
	}{
		{"", []string{b.bin("python"), "-c", script}, `(.+)`},
		{" (Debian's)", []string{b.venv + "-system/bin/python", "-c", script}, `(.+)`},
		{" (Debian's)", []string{"uwsgi", "--version"}, `(.+)`},
		{" (Debian's)", []string{"dpkg-query", "-W", "-f", "mod_wsgi ${Version}", "libapache2-mod-wsgi-py3"}, `(.+)`},
		{" (Debian's)", []string{"apache2", "-v"}, `Server version: (\S+)`},
		{"", []string{"wrk", "-v"}, `(?m)^(wrk \S+)`},
	} {
		out, _ := exec.Command(question.command[0], question.command[1:]...).Output() // wrk exits with 1
		for _, m := range regexp.MustCompile(question.answer).FindAllSubmatch(out, -1) {
			version := string(m[1])
			if question.command[0] == "uwsgi" {
				version = "uWSGI " + version
			}
			if !slices.Contains(list, version) {
				list = append(list, version+question.note)
			}
		}
	}
	return list
}

// A bar is one throughput ratio: how often ours goes into theirs.
type bar struct {
	Y, TextY, Width, End int
	Label, Value         string
}

type picture struct {
	Width, Height, Left, One int
	Title                    string
	Bars                     []bar
}

// bars draws the ratios of requests per second against the peers.
func bars(res results) picture {
	const left, scale, step = 450, 380, 30
	p := picture{Width: left + scale + 70, Left: left, Title: fmt.Sprintf("Requests per second against each peer (%s, %d cores)", res.Date, res.Cores)}
	var most float64 = 1
	for _, r := range res.Ratios {
		if shown(r) {
			most = max(most, r.Value)
		}
	}
	y := 50
	for _, r := range res.Ratios {
		if !shown(r) {
			continue
		}
		load, label, _ := strings.Cut(r.What, ": this / ")
		subject := strings.TrimSuffix(load, ", 64 clients")
		width := int(math.Round(r.Value / most * scale))
		p.Bars = append(p.Bars, bar{Y: y, TextY: y + 14, Width: width, End: left + width + 6, Label: subject + ": " + label, Value: fmt.Sprintf("%.1f×", r.Value)})
		y += step
	}
	p.One = left + int(math.Round(scale/most))
	p.Height = y + 10
	return p
}

func shown(r *ratio) bool {
	return r.Missing == "" && !r.AtMost && strings.Contains(r.What, "clients: this / ")
}

// chart is readable on light and on dark ground: it follows the reader's.
var chart = template.Must(template.New("chart").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="{{.Title}}">
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.bar { fill: #2f6fab }
.one { stroke: #8a8f98; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .bar { fill: #6cb2f0 } }
</style>
<text class="title" x="10" y="24">{{.Title}}</text>
{{range .Bars}}<text x="{{$.Left}}" y="{{.TextY}}" text-anchor="end" dx="-8">{{.Label}}</text>
<rect class="bar" x="{{$.Left}}" y="{{.Y}}" width="{{.Width}}" height="20" rx="2"/>
<text x="{{.End}}" y="{{.TextY}}">{{.Value}}</text>
{{end}}<line class="one" x1="{{.One}}" x2="{{.One}}" y1="40" y2="{{.Height}}"/>
</svg>
`))

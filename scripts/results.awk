# Of the output of "go test -v", keeps what counts: everything about tests that
# fail, the names of those that are skipped, and the line for each package.

/^ *--- PASS/ { if (/^-/) { held = "" } next }
/^ *--- SKIP/ { if (/^-/) { held = "" } print; next }
/^(ok|PASS|\?)/ { held = ""; print; next }
/^ *--- FAIL|^FAIL|^panic: / { printf "%s", held; held = ""; print; next }
{ held = held $0 "\n" }
END { printf "%s", held }

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver"
)

// documents is Go's view of Django's database.
type documents struct {
	db *sql.DB
}

// openDocuments opens the database for reading. That has to happen before
// Python opens it, and Close after Python is done with it.
//
// The process has two SQLites then, Python's and this one, and not any two may
// open the same file. What SQLite commonly uses, POSIX locks, belongs to the
// process: two of them would not see each other's locks, which ends in wrong
// results and corrupt files. This driver's locks belong to the open file. What
// remains is that a process that closes a file loses all of its POSIX locks on
// it, Python's, whoever has opened it. So all connections are made here and stay
// open, and nothing else in Go may open the file. (The order is because the
// driver does not find the lock by which Python says that it uses the WAL index,
// though Python finds the driver's.)
func openDocuments(ctx context.Context, file string) (_ *documents, err error) {
	const connections = 4
	path := url.URL{Path: file}
	db, err := sql.Open("sqlite3", "file:"+path.EscapedPath()+"?mode=ro&_pragma=busy_timeout(20000)")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections) // and no limits in time
	for range connections {
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		defer conn.Close() // back to the pool
		var version int
		if err := conn.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&version); err != nil {
			return nil, err
		}
	}
	return &documents{db}, nil
}

func (d *documents) Close() error {
	return d.db.Close()
}

type document struct {
	ID        int       `json:"id"`
	Title     string    `json:"title"`
	Owner     string    `json:"owner"`
	Uploaded  time.Time `json:"uploaded"`
	Downloads int       `json:"downloads"`
	File      string    `json:"file"`
}

// published returns the newest of the documents that everybody may see.
func (d *documents) published(ctx context.Context) ([]document, error) {
	rows, err := d.db.QueryContext(ctx, `
		SELECT d.id, d.title, u.username, d.uploaded, d.downloads, '/' || d.id || '/file'
		FROM documents_document d JOIN auth_user u ON u.id = d.owner_id
		WHERE d.published
		ORDER BY d.uploaded DESC, d.id DESC
		LIMIT 50`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []document{}
	for rows.Next() {
		var doc document
		if err := rows.Scan(&doc.ID, &doc.Title, &doc.Owner, &doc.Uploaded, &doc.Downloads, &doc.File); err != nil {
			return nil, err
		}
		list = append(list, doc)
	}
	return list, rows.Err()
}

// ServeHTTP answers with the published documents, as JSON.
func (d *documents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	list, err := d.published(r.Context())
	if err != nil {
		slog.ErrorContext(r.Context(), "Reading the documents: "+err.Error())
		http.Error(w, "The documents can't be read now.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"documents": list}) // the client may be gone
}

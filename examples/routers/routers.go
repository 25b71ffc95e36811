package main

import (
	"context"
	"net/http"
	"os"

	"net/http/fcgi"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"
)

// routers mount an application below /shop and at the root, beside a Go route.
//
// A pattern strips nothing off the path in any of them: http.StripPrefix does, and the
// application finds what it took off in SCRIPT_NAME.
var routers = map[string]func(app http.Handler) http.Handler{
	"ServeMux": func(app http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /go", hello)
		mux.Handle("/shop/", http.StripPrefix("/shop", app))
		mux.Handle("/", app)
		return mux
	},
	"chi": func(app http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Get("/go", hello)
		r.Mount("/shop", http.StripPrefix("/shop", app))
		r.Mount("/", app)
		return r
	},
	"Gin": func(app http.Handler) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		r := gin.New()
		r.GET("/go", gin.WrapF(hello))
		r.Any("/shop/*path", gin.WrapH(http.StripPrefix("/shop", app)))
		// A wildcard at the root would conflict with the other routes.
		r.NoRoute(gin.WrapH(app))
		return r
	},
	"Echo": func(app http.Handler) http.Handler {
		e := echo.New()
		e.GET("/go", echo.WrapHandler(http.HandlerFunc(hello)))
		e.Any("/shop/*", echo.WrapHandler(http.StripPrefix("/shop", app)))
		e.Any("/*", echo.WrapHandler(app))
		return e
	},
}

func hello(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte("Hello from Go!\n"))
}

type userKey struct{}

// authenticate stands for whatever a service has: it takes any name without a
// password.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, _, ok := r.BasicAuth(); ok {
			r = r.WithContext(context.WithValue(r.Context(), userKey{}, user))
		}
		next.ServeHTTP(w, r)
	})
}

// setUser gives the application REMOTE_USER: from Go code, from a web server by
// FastCGI, or from one that runs this program as a CGI script.
func setUser(r *http.Request, set func(key, value string)) {
	user, _ := r.Context().Value(userKey{}).(string)
	if user == "" {
		user = fcgi.ProcessEnv(r)["REMOTE_USER"]
	}
	if user == "" && os.Getenv("GATEWAY_INTERFACE") != "" {
		user = os.Getenv("REMOTE_USER")
	}
	if user != "" {
		set("REMOTE_USER", user)
	}
}

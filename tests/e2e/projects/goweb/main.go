package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"

	"example.org/web/page"
)

var version = "unset"

func main() {
	listen := flag.String("listen", ":8080", "address")
	check := flag.Bool("check", false, "ask the server that runs whether it is well")
	flag.Parse()
	if *check {
		response, err := http.Get("http://127.0.0.1:8080/healthz")
		if err != nil || response.StatusCode != http.StatusOK {
			fmt.Fprintln(os.Stderr, "unhealthy:", err)
			os.Exit(1)
		}
		return
	}
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, page.Hello(version, os.Getuid()))
	})
	listener, err := net.Listen("tcp", *listen)
	if err == nil {
		fmt.Println("listening on", *listen)
		err = http.Serve(listener, nil)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

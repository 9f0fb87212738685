// Prints a file, read in the way that the first argument names.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func read(way string, paths []string) (string, error) {
	switch way {
	case "file":
		data, err := os.ReadFile(paths[0])
		return string(data), err
	case "scan":
		file, err := os.Open(paths[0])
		if err != nil {
			return "", err
		}
		defer file.Close()
		scanner := bufio.NewScanner(file)
		scanner.Scan()
		return scanner.Text(), scanner.Err()
	case "tls":
		pair, err := tls.LoadX509KeyPair(paths[0], paths[1])
		if err != nil {
			return "", err
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			return "", err
		}
		return leaf.Subject.CommonName, nil
	}
	return "", fmt.Errorf("no way %q", way)
}

func main() {
	found, err := read(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(found)
}

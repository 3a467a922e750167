// Package page renders what the server answers.
package page

import "fmt"

// Hello greets by version.
func Hello(version string, uid int) string {
	return fmt.Sprintf("hello from %s as %d\n", version, uid)
}

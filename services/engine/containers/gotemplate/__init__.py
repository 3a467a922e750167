"""Templates of Go's ``text/template``, as far as one line of text needs them: no control structures."""

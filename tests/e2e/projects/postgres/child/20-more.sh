psql -c 'INSERT colours blue'

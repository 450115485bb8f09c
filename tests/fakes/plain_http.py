"""One HTTP client for the servers of the tests, which listen on the loopback without TLS.

`httpx2.get` and its like read the machine's certificates for each request, which takes longer than the request.
"""

import httpx2

HTTP = httpx2.Client(verify=False, limits=httpx2.Limits(max_keepalive_connections=0))
"""It keeps no connection, because servers end and others take their ports."""

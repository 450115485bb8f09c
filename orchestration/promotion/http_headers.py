"""Headers of HTTP that no setting and no policy can send."""

UNSENDABLE = frozenset(
    (
        # Of one connection, between two hops (RFC 9110, 7.6.1): the client decides about its connections.
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        # Of what is sent, which the client writes itself.
        *("content-encoding", "content-length", "content-type"),
    )
)
"""In lower case."""

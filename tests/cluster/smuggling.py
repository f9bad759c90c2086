"""Requests that two parsers in a row may read in two ways (S03), and how many requests each is.

Each case ends with a request for SMUGGLED, which is inside of a body, behind an end that only a
lenient parser sees, or pipelined behind a refused one: no gateway may ever take it for a request.
"""

SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n'
CHUNKED = 'Transfer-Encoding: chunked\r\n'
HIDDEN = '0\r\n\r\n' + SMUGGLED  # a body for who counts, an end and a request for who reads chunks


def post(fields, body, version='1.1'):
    return f'POST /v1/files HTTP/{version}\r\nHost: h\r\n{fields}\r\n{body}'


def counted(field):
    """`field` beside a length that covers all that follows."""
    return post(f'Content-Length: {len(HIDDEN)}\r\n{field}', HIDDEN)


def chunks(body):
    return post(CHUNKED, body + SMUGGLED)


# What is refused: 400, and the connection ends.
REFUSED = {
    'CL.TE': counted(CHUNKED),
    'TE.CL': post(CHUNKED + 'Content-Length: 4\r\n',
                  f'{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n0\r\n\r\n'),
    'TE with a TAB': counted('Transfer-Encoding:\tchunked\r\n'),
    'xchunked': counted('Transfer-Encoding: xchunked\r\n'),
    'chunkedx': counted('Transfer-Encoding: chunkedx\r\n'),
    'quoted': counted('Transfer-Encoding: "chunked"\r\n'),
    'a parameter': counted('Transfer-Encoding: chunked;q=1\r\n'),
    'space before the colon': counted('Transfer-Encoding : chunked\r\n'),
    'vertical tab': counted('Transfer-Encoding: \x0bchunked\r\n'),
    'NUL behind': counted('Transfer-Encoding: chunked\0\r\n'),
    'TE in a fold': counted('X: x\r\n Transfer-Encoding: chunked\r\n'),
    'name and colon on two lines': counted('Transfer-Encoding\r\n : chunked\r\n'),
    'TE behind a bare LF': counted('X: x\nTransfer-Encoding: chunked\r\n'),
    'TE behind a bare CR': counted('X: x\rTransfer-Encoding: chunked\r\n'),
    'TE.TE': counted(CHUNKED + 'Transfer-Encoding: x\r\n'),
    'TE.TE without a length': post(CHUNKED + CHUNKED, HIDDEN),
    'chunked, identity': post('Transfer-Encoding: chunked, identity\r\n', HIDDEN),
    'identity': post('Transfer-Encoding: identity\r\n', HIDDEN),
    'gzip, chunked': post('Transfer-Encoding: gzip, chunked\r\n', HIDDEN),
    'TE in HTTP/1.0': post(CHUNKED, HIDDEN, version='1.0'),
    'two lengths': counted('Content-Length: 5\r\n'),
    'two equal lengths': counted(f'Content-Length: {len(HIDDEN)}\r\n'),
    'a list of lengths': post(f'Content-Length: 5, {len(HIDDEN)}\r\n', HIDDEN),
    'a plus': post('Content-Length: +5\r\n', HIDDEN),
    'a minus': post('Content-Length: -0\r\n', HIDDEN),
    'a space in it': post('Content-Length: 5 5\r\n', HIDDEN),
    'hexadecimal': post('Content-Length: 0x5\r\n', HIDDEN),
    'exponent': post('Content-Length: 5e0\r\n', HIDDEN),
    'an empty length': post('Content-Length:\r\n', HIDDEN),
    '2^64 + 5': post('Content-Length: 18446744073709551621\r\n', HIDDEN),
    'LF only': counted('').replace('\r\n', '\n'),
    'obs-fold': counted('X: a\r\n b\r\n'),
    'two Hosts': counted('Host: other\r\n'),
    'NUL in a header': counted('X: \0\r\n'),
    'a fold before the first header':
        f'GET /x HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n{SMUGGLED}',
    'space behind the version': f'GET /x HTTP/1.1 \r\nHost: h\r\n\r\n{SMUGGLED}',
    'a request line in two': f'GET /x\r\n HTTP/1.1\r\nHost: h\r\n\r\n{SMUGGLED}',
}

# A head that is right, and a chunked body that is not: one request, refused with 400.
BAD_CHUNKS = {
    'no size': chunks('\r\nhello\r\n0\r\n\r\n'),
    'a size with 0x': chunks('0x5\r\nhello\r\n0\r\n\r\n'),
    'a size with a plus': chunks('+5\r\nhello\r\n0\r\n\r\n'),
    'a negative size': chunks('-5\r\nhello\r\n0\r\n\r\n'),
    'a size of 68 bits': chunks('10000000000000005\r\nhello\r\n0\r\n\r\n'),
    'a letter behind the size': chunks('5g\r\nhello\r\n0\r\n\r\n'),
    'a space before the size': chunks(' 5\r\nhello\r\n0\r\n\r\n'),
    'the size ends in LF': chunks('5\nhello\r\n0\r\n\r\n'),
    'an extension ends in LF': chunks('5;a\nhello\r\n0\r\n\r\n'),
    'an extension with a bare CR': chunks('5;a\rb\r\nhello\r\n0\r\n\r\n'),
    'a chunk longer than its size': chunks('5\r\nhello!\r\n0\r\n\r\n'),
    'a chunk without its CRLF': chunks('5\r\nhello0\r\n\r\n'),
    'a chunk that ends in LF': chunks('5\r\nhello\n0\r\n\r\n'),
    'a trailer that ends in LF': chunks('5\r\nhello\r\n0\r\nX: y\n\r\n'),
    'a folded trailer': chunks('5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n'),
    'the end in LF': chunks('5\r\nhello\r\n0\r\n\n'),
}

BODY = f'Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}'

# One request each: what follows is its body, and is read as such or ends the connection.
ONE = {
    '0.CL': 'GET /x/y HTTP/1.1\r\nHost: h\r\n' + BODY,
    '0.CL with Expect': 'GET /x/y HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n' + BODY,
    'CL.0': 'POST /healthz HTTP/1.1\r\nHost: h\r\n' + BODY,
    '0.TE': f'GET /x/y HTTP/1.1\r\nHost: h\r\n{CHUNKED}\r\n{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n'
            '0\r\n\r\n',
    'a hop-by-hop length': counted('Connection: Content-Length\r\n'),
    'an underscore': counted('Transfer_Encoding: chunked\r\n'),
    'TE named in a header': counted('X-Transfer-Encoding: chunked\r\n'),
    'absolute-form with another Host':
        f'POST http://other/v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: {len(HIDDEN)}\r\n\r\n'
        + HIDDEN,
    'a request in an extension':
        post(CHUNKED, f'5;{SMUGGLED[:-4].replace(chr(13) + chr(10), " ")}\r\nhello\r\n0\r\n\r\n'),
    'a request in a trailer':
        post(CHUNKED, '5\r\nhello\r\n0\r\nX: ' + SMUGGLED.replace('\r\n', ' ') + '\r\n\r\n'),
    'lengths in the trailers':
        post(CHUNKED, f'5\r\nhello\r\n0\r\nContent-Length: {len(SMUGGLED)}\r\n{CHUNKED}\r\n'),
}

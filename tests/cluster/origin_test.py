#!/usr/bin/env python3
"""What an image CDN asks of its origin, to the letter: raw sockets against two gateways and two
copies.

One test for each thing that CDNs ask for, and one for each mistake that origins are known for: the
connection's bytes are looked at, not what a client's library makes of them. The tests share one
cluster, in the order of the list at the end; those that kill something start it again.
"""

import base64
import contextlib
import hashlib
import json
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime

from harness import admin_address, check, check_equal, main, metric, random_bytes, wait_until
from load import kill_for_good, measured
from origin import (CONNECTIONS_MAX, FILE, FOR_EVER, HTML, IMAGE, LONG, SANDBOX, SPANS, SVG, TEXT,
                    UNKNOWN, Origin)
from raw import Answer, connect, read_to_end, request_bytes


class OriginTests(Origin):
    """See above; in this order."""

    # --- what CDNs ask for ---------------------------------------------------------------------
    def test_row_etag(self):
        """Strong, quoted, the same at every gateway and under every name; one per encoding."""
        answers = [self.get(self.image, query=query, gateway=gateway)
                   for gateway in (0, 1) for query in ('', '?a=b')]
        for answer in answers:
            self.check_whole(self.image, answer)
        check_equal(len({tuple(answer.lasting().items()) for answer in answers}), 1, 'one answer')
        check(re.fullmatch(r'"[A-Za-z0-9_-]{18}"', answers[0]['ETag']), answers[0]['ETag'])
        coded = self.get(self.text, 'Accept-Encoding: zstd')
        check_equal(coded['ETag'], f'"{self.text.id}-zstd"', 'the tag of another encoding')

    def test_row_last_modified(self):
        """The creation time that is stored, in IMF-fixdate, from both gateways."""
        created = json.loads(self.ask('GET', '/v1/files' + self.image.path).body)['created']
        stored = parsedate_to_datetime(self.modified)
        check_equal(stored.strftime('%Y-%m-%dT%H:%M:%S'), created[:19], 'Last-Modified')
        check_equal(formatdate(stored.timestamp(), usegmt=True), self.modified, 'its form')
        check_equal(self.get(self.image, gateway=1)['Last-Modified'], self.modified, 'the other')

    def test_row_conditionals(self):
        """RFC 9110 section 13.2.2, in its order, each form of tag and date."""
        tag, old, same, new = self.image.etag, self.before, self.modified, self.after
        for status, *lines in (
                (304, f'If-None-Match: {tag}'), (304, f'If-None-Match: W/{tag}'),
                (304, 'If-None-Match: *'), (304, f'If-None-Match: "x", {tag} , "y"'),
                (304, 'If-None-Match: "x"', f'If-None-Match: {tag}'),
                (200, 'If-None-Match: "x"'), (200, f'If-None-Match: {tag[1:-1]}'),
                (200, f'If-None-Match: "{self.image.id}-zstd"'),
                (304, f'If-Modified-Since: {same}'), (304, f'If-Modified-Since: {new}'),
                (200, f'If-Modified-Since: {old}'), (200, 'If-Modified-Since: yesterday'),
                (200, f'If-Modified-Since: {same}', f'If-Modified-Since: {same}'),
                (200, 'If-None-Match: "x"', f'If-Modified-Since: {new}'),
                (304, f'If-None-Match: {tag}', f'If-Modified-Since: {old}'),
                (200, f'If-Match: {tag}'), (200, 'If-Match: *'), (200, f'If-Match: "x",{tag}'),
                (412, 'If-Match: "x"'), (412, f'If-Match: W/{tag}'), (412, 'If-Match: x'),
                (200, f'If-Unmodified-Since: {same}'), (200, f'If-Unmodified-Since: {new}'),
                (412, f'If-Unmodified-Since: {old}'), (200, 'If-Unmodified-Since: yesterday'),
                (200, f'If-Match: {tag}', f'If-Unmodified-Since: {old}'),
                (412, 'If-Match: "x"', f'If-Unmodified-Since: {new}'),
                (412, 'If-Match: "x"', f'If-None-Match: {tag}'),
                (304, f'If-Match: {tag}', f'If-None-Match: {tag}')):
            answer = self.get(self.image, *lines)
            check_equal(answer.status, status, f'{lines}')
            if status == 200:
                self.check_whole(self.image, answer)
            elif status == 304:
                self.check_not_modified(self.image, answer)
            else:
                self.check_error(answer, '412 Precondition Failed', 'precondition_failed')
        # Of what does not exist there is nothing to compare.
        for line in ('If-Match: *', 'If-None-Match: *', f'If-Modified-Since: {new}'):
            check_equal(self.ask('GET', UNKNOWN, line).status, 404, line)

    def test_row_ranges(self):
        """Single, suffix, from; If-Range; what is no range is the whole file; never chunked."""
        size, tag = len(IMAGE), self.image.etag
        for value, first, last in (
                ('0-0', 0, 0), ('0-99', 0, 99), (f'{size - 1}-', size - 1, size - 1),
                ('-1', size - 1, size - 1), ('-100', size - 100, size - 1),
                (f'-{size * 2}', 0, size - 1), ('0-', 0, size - 1), (f'5-{size * 9}', 5, size - 1),
                ('7-18446744073709551999', 7, size - 1), (', 0-4 ,', 0, 4)):
            answer = self.get(self.image, f'Range: bytes={value}')
            self.check_part(self.image, answer, first, last)
        self.check_part(self.image, self.get(self.image, 'Range: BYTES=1-2'), 1, 2)
        for condition in (f'If-Range: {tag}', f'If-Range: {self.modified}'):
            self.check_part(self.image, self.get(self.image, 'Range: bytes=1-2', condition), 1, 2)
        for lines in (('Range: bytes=2-1',), ('Range: bytes=a-b',), ('Range: lines=0-1',),
                      ('Range: bytes=',), ('Range: 0-1',), ('Range: bytes=0-1', 'Range: bytes=2-3'),
                      ('Range: bytes=1-2', 'If-Range: "x"'),
                      ('Range: bytes=1-2', f'If-Range: W/{tag}'),
                      ('Range: bytes=1-2', f'If-Range: {self.before}'),
                      ('Range: bytes=1-2', f'If-Range: {self.after}')):
            self.check_whole(self.image, self.get(self.image, *lines))
        self.check_not_modified(self.image, self.get(self.image, 'Range: bytes=0-1',
                                                     f'If-None-Match: {tag}'))
        head = self.ask('HEAD', self.image.path, 'Range: bytes=0-1')
        check_equal((head.status, head['Content-Length'], head['Content-Range']),
                    (200, str(size), None), 'HEAD knows no range')

    def test_row_cache_control(self):
        """A year and immutable for a file; nothing of an error is kept."""
        for lines in ((), ('Range: bytes=0-1',), (f'If-None-Match: {self.image.etag}',)):
            check_equal(self.get(self.image, *lines)['Cache-Control'], FOR_EVER, f'{lines}')
        for method, target, *lines in (
                ('GET', UNKNOWN), ('GET', '/short'), ('GET', '/v1/nothing'),
                ('PUT', self.image.path), ('BREW', '/'), ('POST', '/v1/files'),
                ('GET', self.image.path, 'If-Match: "x"'),
                ('GET', self.image.path, 'Range: bytes=999999-'),
                ('DELETE', '/v1/files' + self.image.path)):
            answer = self.ask(method, target, *lines)
            check(answer.status >= 400, f'{method} {target}: {answer.status}')
            check_equal(answer['Cache-Control'], 'no-store', f'{method} {target}')
        check_equal(self.ask('GET', '/v1/files' + self.image.path)['Cache-Control'], 'no-store',
                    'what changes')

    def test_row_tags(self):
        """Surrogate-Key and Cache-Tag come back as they were sent, at both gateways, and only with
        the file they were sent with; a 304 has none: they never change."""
        tags = {'surrogate-key': 'cats pets', 'cache-tag': 'cats,pets', 'x-hayloft-album': '7'}
        stored = self.upload(IMAGE[:5000], 'image/png', 'Surrogate-Key: cats pets',
                             'Cache-Tag: cats,pets', 'X-Hayloft-Album: 7')
        for gateway in (0, 1):
            for lines in ((), ('Range: bytes=0-9',), ('Range: bytes=0-1,5-6',)):
                answer = self.get(stored, *lines, gateway=gateway)
                check_equal({name: value for name, value in answer.fields.items() if name in tags},
                            tags, f'{lines}')
            self.check_not_modified(stored, self.get(stored, 'If-None-Match: *', gateway=gateway))
        self.check_whole(self.image, self.get(self.image))

    def test_row_vary(self):
        """Exactly where the answer varies: a file that is stored as zstd, in both its forms."""
        for lines in ((), ('Accept-Encoding: zstd, gzip, br',), ('Origin: http://a.example',)):
            check_equal(self.get(self.image, *lines)['Vary'], None, f'an image: {lines}')
        for lines in ((), ('Accept-Encoding: zstd',), ('Range: bytes=0-9',),
                      ('If-None-Match: *',), ('Accept-Encoding: zstd', 'If-None-Match: *')):
            check_equal(self.get(self.text, *lines)['Vary'], 'Accept-Encoding', f'text: {lines}')

    def test_row_url(self):
        """An extension changes nothing, whatever it says; what is none is no id."""
        plain = self.get(self.image)
        for extension in ('.png', '.jpg', '.webp', '.html', '.JPG'):
            named = self.ask('GET', self.image.path + extension)
            check_equal((named.status, named.lasting(), named.body == IMAGE),
                        (200, plain.lasting(), True), extension)
        for extension in ('.', '.j/pg', '.longerthan8', 'x', '.p%6eg', '/'):
            check(self.ask('GET', self.image.path + extension).status in (400, 404), extension)

    def test_row_type(self):
        """Sniffed where the client's is missing or wrong; nosniff on every answer."""
        for claimed, body, kept in (
                ('image/jpeg', IMAGE, 'image/png'), ('application/octet-stream', SVG, None),
                ('application/x-www-form-urlencoded', IMAGE, 'image/png'),
                ('text/plain; charset=utf-8', TEXT, 'text/plain; charset=utf-8'),
                ('application/x-own', random_bytes(99, 3), 'application/x-own')):
            answer = self.get(self.upload(body, claimed))
            check_equal(answer['Content-Type'], kept or claimed, f'{claimed} of {body[:9]!r}')
        for method, target in (('GET', self.image.path), ('GET', UNKNOWN), ('GET', '/healthz'),
                               ('GET', '/v1/files' + self.image.path), ('OPTIONS', '*'),
                               ('BREW', '/')):
            check_equal(self.ask(method, target)['X-Content-Type-Options'], 'nosniff', target)

    def test_row_uploads(self):
        """Raw, chunked, a form; digests are checked; refused before the body when it will be; 201
        with Location."""
        chunked = b'5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Trailer: x\r\n\r\n'
        raw, of_form = IMAGE + b'raw', IMAGE + b'of a form'
        form = (b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
                + of_form + b'\r\n--b--\r\n')
        for lines, sent, body in (
                (('Content-Type: image/png',), raw, raw),
                (('Transfer-Encoding: chunked',), chunked, b'hello world'),
                (('Content-Type: multipart/form-data; boundary=b',), form, of_form)):
            answer = self.ask('POST', '/v1/files', *lines, body=sent)
            check_equal(answer.status_line, 'HTTP/1.1 201 Created', f'{lines}')
            told = json.loads(answer.body)
            told = told['files'][0] if 'files' in told else told
            check_equal(answer['Cache-Control'], 'no-store', 'of an upload')
            check_equal(told['url'], '/' + told['id'], 'url')
            if 'files' not in json.loads(answer.body):
                check_equal(answer['Location'], told['url'], 'Location')
            check(self.ask('GET', told['url'], gateway=1).body == body, 'the bytes, elsewhere')
        md5 = base64.b64encode(hashlib.md5(IMAGE).digest()).decode()
        sha = base64.b64encode(hashlib.sha256(IMAGE).digest()).decode()
        for line in (f'Content-MD5: {md5}', f'Digest: sha-256={sha}',
                     f'Content-Digest: sha-256=:{sha}:'):
            answer = self.ask('POST', '/v1/files', line, body=IMAGE)
            check_equal(answer.status, 200, f'{line}: it is stored already')
            answer = self.ask('POST', '/v1/files', line, body=IMAGE[:-1] + b'!')
            self.check_error(answer, '400 Bad Request', 'digest_mismatch')
        for lines, status in ((('Content-Length: 100000000',), 413),
                              (('Content-Length: 5', 'Content-Encoding: gzip'), 415),
                              (('Content-Length: 5', 'Content-MD5: x'), 400)):
            with connect(self.gateways[0]) as client:
                client.sendall(request_bytes('POST', '/v1/files',
                                             lines + ('Expect: 100-continue',)))
                check_equal(Answer(read_to_end(client)[0]).status, status, 'before the body')
        with connect(self.gateways[0]) as client:
            client.sendall(request_bytes('POST', '/v1/files', ('Content-Length: 5',
                                                               'Expect: 100-continue')))
            check_equal(client.recv(99), b'HTTP/1.1 100 Continue\r\n\r\n', 'go on')
            client.sendall(b'hello')
            check_equal(Answer(read_to_end(client)[0]).status, 201, 'then the answer')

    def test_row_overload(self):
        """Beyond a bound 503 with Retry-After, not kept; then all is as before."""
        with contextlib.ExitStack() as open_ones:
            def refusal():  # some may have met others that were not closed yet
                open_ones.enter_context(connect(self.gateways[0]))
                answer = self.ask('GET', self.image.path)
                return answer if answer.status != 200 else None
            for _ in range(CONNECTIONS_MAX - 5):
                open_ones.enter_context(connect(self.gateways[0]))
            refused = wait_until(refusal, 'a connection is refused')
            self.check_error(refused, '503 Service Unavailable', 'unavailable', {'Retry-After'})
            check(int(refused['Retry-After']) > 0, 'Retry-After in seconds')
            self.check_whole(self.image, self.get(self.image, gateway=1))
        wait_until(lambda: self.ask('GET', '/healthz').status == 200, 'room again')

    def test_row_gone(self):
        """A deleted file is 410 at both gateways, not kept; after an undelete it is as it was."""
        stored = self.upload(IMAGE[:5000], 'image/png')
        before = self.get(stored)
        token = f'Hayloft-Delete-Token: {stored.json["delete_token"]}'
        for _ in range(2):
            gone = self.ask('DELETE', '/v1/files' + stored.path, token)
            check_equal((gone.status_line, gone.body), ('HTTP/1.1 204 No Content', b''), 'delete')
        for gateway in (0, 1):
            for lines in ((), (f'If-None-Match: {stored.etag}',), ('Range: bytes=0-1',),
                          ('Range: bytes=99999-',), (f'If-Modified-Since: {self.after}',)):
                self.check_error(self.get(stored, *lines, gateway=gateway), '410 Gone', 'gone')
        for method in ('GET', 'HEAD'):
            self.check_error(self.ask(method, UNKNOWN), '404 Not Found', 'not_found')
        undone = self.ask('POST', f'/v1/files{stored.path}/undelete', token)
        check_equal(undone.status, 200, 'undelete')
        after = self.get(stored)
        check_equal((after.lasting(), after.body), (before.lasting(), before.body), 'as it was')

    def test_row_cors(self):
        """`*` without credentials; and all fields of the answer may be read."""
        for lines in ((), ('Origin: https://a.example',), ('Range: bytes=0-1',), ('If-Match: "x"',),
                      ('Range: bytes=999999-',), (f'If-None-Match: {self.image.etag}',)):
            answer = self.get(self.image, *lines)
            check_equal(answer['Access-Control-Allow-Origin'], '*', f'{lines}')
            check_equal(answer['Access-Control-Expose-Headers'], '*', f'{lines}')
        preflight = self.ask('OPTIONS', self.image.path, 'Origin: https://a.example',
                             'Access-Control-Request-Method: GET',
                             'Access-Control-Request-Headers: range')
        check_equal((preflight.status_line, preflight['Access-Control-Allow-Origin']),
                    ('HTTP/1.1 204 No Content', '*'), 'a preflight')
        check_equal(self.ask('OPTIONS', self.image.path)['Allow'], 'GET, HEAD, OPTIONS', 'Allow')

    def test_row_ops(self):
        """/healthz, /readyz; the client's X-Request-Id, or one of our own for each answer, and a
        line of the access log for each; Server-Timing of what was served, not of errors."""
        for path in ('/healthz', '/readyz'):
            for gateway in (0, 1):
                answer = self.ask('GET', path, gateway=gateway)
                check_equal((answer.status, answer['Cache-Control']), (200, 'no-store'), path)
        mine = self.ask('GET', self.image.path, 'X-Request-Id: mine-1.a_B')
        check_equal(mine['X-Request-Id'], 'mine-1.a_B', "the client's")
        own = {self.ask('GET', self.image.path, f'X-Request-Id: {wrong}')['X-Request-Id']
               for wrong in ('', 'a b', 'x' * 65, '"<script>')}
        check(len(own) == 4 and all(re.fullmatch('[0-9a-f]{16}', each) for each in own), own)
        missing = self.ask('GET', UNKNOWN, 'X-Request-Id: mine-2')
        check(re.fullmatch(r'store;dur=\d+\.\d{3}', mine['Server-Timing']), mine.fields)
        check_equal(missing['Server-Timing'], None, 'of an error')
        wanted = {(each, self.image.path, 200) for each in own | {'mine-1.a_B'}}
        wanted.add(('mine-2', UNKNOWN, 404))

        def logged():
            with open(self.access_log, encoding='ascii') as file:
                lines = [json.loads(line) for line in file.read().splitlines()]
            found = [(line.get('request_id'), line.get('target'), line['status']) for line in lines]
            return sorted(each for each in found if each[0] in own | {'mine-1.a_B', 'mine-2'})
        wait_until(lambda: logged() == sorted(wanted), lambda: f'a line for each: {logged()}')

    # --- mistakes that origins are known for ---------------------------------------------------
    def test_mistake_01_date_before_tag(self):
        """A later If-Modified-Since beside a tag that differs is no 304."""
        lines = (f'If-Modified-Since: {self.after}', 'If-None-Match: "of-yesterday"')
        self.check_whole(self.image, self.get(self.image, *lines))

    def test_mistake_02_one_exact_tag(self):
        """Lists, `*` and W/ are understood, and the 304 has the ETag."""
        for value in (f'"a", W/"b",{self.image.etag}', '*', 'W/' + self.image.etag):
            self.check_not_modified(self.image, self.get(self.image, f'If-None-Match: {value}'))

    def test_mistake_03_conditions_unknown(self):
        """If-Range, If-Match and If-Unmodified-Since are obeyed."""
        self.check_whole(self.image, self.get(self.image, 'Range: bytes=0-9', 'If-Range: "old"'))
        for line in ('If-Match: "old"', f'If-Unmodified-Since: {self.before}'):
            self.check_error(self.get(self.image, line, 'Range: bytes=0-9'),
                             '412 Precondition Failed', 'precondition_failed')

    def test_mistake_04_overlaps_beyond_the_file(self):
        """S06: ranges are merged, at most 16; more than the file is the file, never empty."""
        size = len(IMAGE)
        for value in ('0-,0-,0-', '0-,-1', ','.join(['0-'] * 16), f'0-{size},1-,5-9'):
            self.check_part(self.image, self.get(self.image, f'Range: bytes={value}'), 0, size - 1)
        self.check_part(self.image, self.get(self.image, 'Range: bytes=20-29,0-9,10-19'), 0, 29)
        for value in (','.join(['0-'] * 17), ','.join(f'{9 * i}-{9 * i}' for i in range(700)),
                      ','.join(f'{i}-' for i in range(1200))):
            self.check_whole(self.image, self.get(self.image, f'Range: bytes={value}'))
        answer = self.get(self.image, 'Range: bytes=90-99,0-0,50-60,55-58,200000-')
        self.check_parts(self.image, answer, ((90, 99), (0, 0), (50, 60)))

    def test_mistake_05_416_without_size(self):
        """What cannot be satisfied is told how long the file is."""
        for value in (f'{len(IMAGE)}-', '-0', f'{len(IMAGE)}-,-0', '99999999999999999999-'):
            answer = self.get(self.image, f'Range: bytes={value}')
            self.check_error(answer, '416 Range Not Satisfiable', 'range_not_satisfiable',
                             {'Content-Range'})
            check_equal(answer['Content-Range'], f'bytes */{len(IMAGE)}', 'Content-Range')

    def test_mistake_06_encoding_without_vary(self):
        """The compressed form has a Vary and a tag of its own; q=0 is obeyed."""
        coded = self.get(self.text, 'Accept-Encoding: gzip, zstd')
        check_equal((coded['Content-Encoding'], coded['Vary'], coded['ETag']),
                    ('zstd', 'Accept-Encoding', f'"{self.text.id}-zstd"'), 'compressed')
        check(coded.body[:4] == b'\x28\xb5\x2f\xfd' and len(coded.body) < len(TEXT), 'zstd')
        for wanted in ('zstd;q=0', 'gzip', 'identity, zstd;q=0.5', '*;q=0', 'zstd;q=0, *', 'x-zstd',
                       'zstd;q=2'):
            plain = self.get(self.text, f'Accept-Encoding: {wanted}')
            check_equal((plain.names(), plain['ETag'], plain.body == TEXT),
                        (FILE | {'Vary'}, self.text.etag, True), wanted)
        # The tag of one form is not the other's.
        check_equal(self.get(self.text, f'If-None-Match: {coded["ETag"]}').status, 200, 'plain')
        check_equal(self.get(self.text, f'If-None-Match: {coded["ETag"]}',
                             'Accept-Encoding: zstd').status, 304, 'the same form')
        check_equal(self.get(self.text, 'Range: bytes=0-9', f'If-Range: {self.text.etag}',
                             'Accept-Encoding: zstd').body, coded.body, 'a range of the other form')
        part = self.get(self.text, 'Range: bytes=4-9', 'Accept-Encoding: zstd')
        check_equal((part.body, part['Content-Range']),
                    (coded.body[4:10], f'bytes 4-9/{len(coded.body)}'), 'a range of this form')

    def test_mistake_07_variants_share_a_tag(self):
        """There is no variant but the encoding: what asks for one gets the bytes of the tag."""
        whole = self.get(self.image)
        for query in ('?width=10', '?w=10&h=10', '?format=webp', '?thumbnail'):
            other = self.get(self.image, 'Accept: image/webp', 'DPR: 2', 'Width: 10', query=query)
            check_equal((other.lasting(), other.body == IMAGE), (whole.lasting(), True), query)

    def test_mistake_08_no_cache_control(self):
        """No answer is without Cache-Control, so that no cache has to guess."""
        for method, target, *lines in (
                ('GET', self.image.path), ('HEAD', self.image.path), ('GET', UNKNOWN),
                ('GET', '/v1/files' + self.image.path), ('GET', '/healthz'), ('GET', '/'),
                ('OPTIONS', self.image.path), ('GET', self.image.path, 'If-None-Match: *'),
                ('POST', '/v1/files'), ('BREW', '/'), ('GET', '/favicon.ico'),
                ('GET', self.image.path, 'Bad Name: x')):
            answer = self.ask(method, target, *lines)
            check(answer['Cache-Control'], f'{method} {target}: {answer.fields}')

    def test_mistake_09_any_origin_with_credentials(self):
        """No answer allows credentials."""
        for method in ('GET', 'HEAD', 'OPTIONS'):
            for path in (self.image.path, '/v1/files' + self.image.path, '/v1/files'):
                answer = self.ask(method, path, 'Origin: https://a.example', 'Cookie: a=b',
                                  'Access-Control-Request-Method: GET')
                check_equal(answer['Access-Control-Allow-Credentials'], None, f'{method} {path}')

    def test_mistake_10_wrong_statuses(self):
        """405 with Allow, 413, 401 with WWW-Authenticate. 503 with Retry-After is in
        test_row_overload, 429 in rate_test.py."""
        wrong = self.ask('PUT', self.image.path, body=b'x')
        self.check_error(wrong, '405 Method Not Allowed', 'method_not_allowed', {'Allow'})
        check_equal(wrong['Allow'], 'GET, HEAD, OPTIONS', 'Allow')
        large = self.ask('POST', '/v1/files', 'Content-Length: 100000000')
        self.check_error(large, '413 Content Too Large', 'too_large')
        for method in ('DELETE', 'POST'):
            path = '/v1/files' + self.image.path + ('/undelete' if method == 'POST' else '')
            self.check_error(self.ask(method, path), '401 Unauthorized', 'unauthorized',
                             {'WWW-Authenticate'})

    def test_mistake_11_query_changes_the_type(self):
        """S13: no parameter makes a page of an image."""
        for query in ('?content-type=text/html', '?type=text/html', '?dl=true', '?mime=text%2fhtml',
                      '?response-content-type=text/html', '?response-content-disposition=inline'):
            answer = self.get(self.image, query=query)
            self.check_whole(self.image, answer)
            check_equal((answer['Content-Type'], answer['X-Content-Type-Options']),
                        ('image/png', 'nosniff'), query)

    def test_mistake_12_change_on_get(self):
        """S14: neither GET nor HEAD deletes or stores, whatever beside them says so."""
        stored = self.upload(IMAGE[:999], 'image/png')
        token = f'Hayloft-Delete-Token: {stored.json["delete_token"]}'
        for method in ('GET', 'HEAD'):
            for path in (stored.path, '/v1/files' + stored.path, '/v1/files',
                         f'/v1/files{stored.path}/undelete', f'/v1/files{stored.path}/delete'):
                self.ask(method, path + '?_method=DELETE&method=DELETE', token,
                         'X-HTTP-Method-Override: DELETE', 'X-HTTP-Method: DELETE',
                         'X-Method-Override: DELETE')
        self.check_whole(stored, self.get(stored))

    # --- attacks -------------------------------------------------------------------------------
    def test_stored_pages_are_harmless(self):
        """S13: SVG, HTML and what is two things at once run no script of the gateway's origin."""
        gif_and_script = b'GIF89a/*' + random_bytes(20, 4).hex().encode() + b'*/=1;alert(1)//'
        jpeg_and_html = b'\xff\xd8\xff\xe0' + HTML
        pdf_and_html = b'%PDF-1.4\n' + HTML
        for claimed, body, kept, active in (
                ('image/svg+xml', SVG, 'image/svg+xml', True),
                ('image/png', SVG, 'image/svg+xml', True),
                ('', b'<?xml version="1.0"?><!-- x -->' + SVG, 'image/svg+xml', True),
                ('text/html', HTML, 'text/html', True), ('image/gif', HTML, 'text/html', True),
                ('TEXT/HTML; charset=utf-7', HTML, 'TEXT/HTML; charset=utf-7', True),
                ('application/xhtml+xml', HTML, 'application/xhtml+xml', True),
                ('text/xml', b'<?xml version="1.0"?><a/>', 'text/xml', True),
                ('text/plain', HTML, 'text/plain', False),
                ('text/javascript', gif_and_script, 'image/gif', False),
                ('text/html', gif_and_script, 'image/gif', False),
                ('text/html', jpeg_and_html, 'image/jpeg', False),
                ('application/pdf', pdf_and_html, 'application/pdf', False),
                ('text/html', IMAGE[:5000], 'image/png', False)):
            stored = self.upload(body, claimed)
            for lines in ((), ('Range: bytes=0-4',), ('Accept-Encoding: zstd',)):
                answer = self.get(stored, *lines)
                what = f'{claimed} of {body[:20]!r}'
                check_equal((answer['Content-Type'], answer['X-Content-Type-Options']),
                            (kept, 'nosniff'), what)
                check_equal(answer['Content-Security-Policy'], SANDBOX if active else None, what)
                check_equal(answer['Content-Disposition'], None, what)
            saved = self.get(stored, query='?download=x.html')
            check_equal((saved['Content-Disposition'], saved['Content-Type']),
                        ('attachment; filename="x.html"', kept), 'saved under a name')

    def test_what_is_no_key_changes_nothing(self):
        """S19: neither Host nor what proxies add nor unknown parameters reach the answer."""
        whole = self.get(self.image)
        evil = 'evil.example'
        for lines in ((f'Host: {evil}',), (f'X-Forwarded-Host: {evil}',), ('Cookie: a=b',),
                      (f'X-Forwarded-For: {evil}', f'X-Forwarded-Proto: {evil}',
                       f'X-Forwarded-Port: {evil}', f'X-Forwarded-Prefix: /{evil}'),
                      (f'Forwarded: for=1.2.3.4;host={evil}',), (f'X-Host: {evil}',),
                      (f'X-Original-URL: {UNKNOWN}', f'X-Rewrite-URL: {UNKNOWN}'),
                      ('X-HTTP-Method-Override: POST',), ('Accept: text/html',),
                      ('Accept-Language: de',), (f'Origin: https://{evil}',),
                      (f'Referer: https://{evil}/',), ('User-Agent: <script>',),
                      ('Range-Unit: bytes',), ('Cache-Control: no-cache', 'Pragma: no-cache'),
                      ('X-Timer: 1', 'Via: 1.1 x', 'CDN-Loop: x'), ('Sec-Fetch-Site: cross-site',)):
            answer = self.get(self.image, *lines)
            check_equal((answer.lasting(), answer.body == IMAGE), (whole.lasting(), True), lines)
        for query in ('?', '?utm_source=x', '?a[]=1', '?callback=alert', '?Download=x',
                      '?range=0-1', '?%64ownload=x', '?x=download=y', f'?url={evil}',
                      '?' + 'x' * 7000):
            answer = self.get(self.image, query=query)
            check_equal((answer.lasting(), answer.body == IMAGE), (whole.lasting(), True), query)
        absolute = self.ask('GET', f'http://{evil}{self.image.path}')
        check_equal((absolute.lasting(), absolute.body == IMAGE), (whole.lasting(), True),
                    'absolute-form')
        unknown = self.ask('GET', UNKNOWN)
        for lines in ((f'Host: {evil}',), (f'X-Forwarded-Host: {evil}',)):
            answer = self.ask('GET', UNKNOWN, *lines)
            check_equal((answer.lasting(), answer.body), (unknown.lasting(), unknown.body), lines)
        stored = self.ask('POST', '/v1/files', f'Host: {evil}', f'X-Forwarded-Host: {evil}',
                          body=IMAGE)
        check(evil not in stored['Location'] + stored.body.decode(), stored.body)

    def test_bodiless_answers_keep_the_connection_in_step(self):
        """HEAD, 304 and 416 send not a byte more than they say: what is pipelined behind fits."""
        targets = [('HEAD', ()), ('GET', (f'If-None-Match: {self.image.etag}',)),
                   ('HEAD', ('If-Match: "x"',)), ('GET', ('Range: bytes=0-4',)),
                   ('GET', ('Range: bytes=9999999-',)), ('HEAD', ('If-None-Match: *',))]
        with connect(self.gateways[0]) as client:
            client.sendall(b''.join(request_bytes(method, self.image.path,
                                                  lines + ('Connection: keep-alive',))
                                    for method, lines in targets)
                           + request_bytes('GET', self.image.path))
            received = read_to_end(client)[0]
        statuses = [int(each) for each in re.findall(rb'HTTP/1\.1 (\d\d\d) ', received)]
        check_equal(statuses, [200, 304, 412, 206, 416, 304, 200], 'answers')
        check(received.endswith(b'\r\n\r\n' + IMAGE), 'the last one is whole')


    # --- deaths --------------------------------------------------------------------------------
    def test_mistake_13_short_body_when_a_replica_fails(self):
        """The rest comes from the other one, whole files and several ranges; and ETag,
        Last-Modified and all else are the same from each of them alone."""
        before, last = self.lasting(), len(LONG) - 1
        spans = ((0, 4_999_999), (6_000_000, 9_999_999), (12_000_000, last))
        for dsp, lines, check_answer in zip(
                self.cluster.processes('dsp'), ((), (f'Range: bytes={SPANS}',)),
                (self.check_whole, lambda *both: self.check_parts(*both, spans))):
            client, received = self.begin_from(dsp, *lines)
            kill_for_good(self.cluster, dsp)
            check_answer(self.long, Answer(self.finish(client, received)))
            check_equal(self.lasting(), before, f'without {dsp["name"]}')
            self.restore()

    def test_mistake_13_short_body_when_a_replica_hangs(self):
        """The rest comes from the other one, long before the time for a read is over each time."""
        dsp = self.cluster.process('dsp-1-1')
        client, received = self.begin_from(dsp)
        self.cluster.kill(dsp, signal.SIGSTOP)
        try:
            self.check_whole(self.long, Answer(self.finish(client, received)))
        finally:
            self.cluster.kill(dsp, signal.SIGCONT)

    def test_mistake_13_short_body_when_all_fail(self):
        """The connection ends before Content-Length is reached; then 503 with Retry-After, even
        for who has the bytes: whether the file still exists is not known. After a restart of
        everything ETag, Last-Modified and all else are as before."""
        before = self.lasting()
        readers = [self.begin(self.long, *lines) for lines in ((), (f'Range: bytes={SPANS}',))]
        for dsp in self.cluster.processes('dsp'):
            kill_for_good(self.cluster, dsp)
        conditions = ((), (f'If-None-Match: {self.image.etag}',))
        with ThreadPoolExecutor() as pool:  # each waits for as long as a read may take
            short = [pool.submit(self.check_short, *reader) for reader in readers]
            asked = [pool.submit(self.ask, 'GET', self.image.path, *lines) for lines in conditions]
        for done in short:
            done.result()
        for answer in (done.result() for done in asked):
            code = json.loads(answer.body)['error']
            self.check_error(answer, '503 Service Unavailable', code, {'Retry-After'})
            check(int(answer['Retry-After']) > 0, 'Retry-After in seconds')
        self.cluster.down()
        self.restore()
        check_equal(self.lasting(), before, 'after the restart')
        self.check_whole(self.long, self.ask('GET', self.long.path))

    def test_gateway_dies_mid_transfer(self):
        """F13: readers see a short body, whole and in parts; nothing of an upload is stored."""
        def stored():
            return sum(measured(self.cluster, dsp, 'appends_total')
                       for dsp in self.cluster.processes('dsp'))
        before, admin = stored(), admin_address(self.cluster.process('gateway-1'))
        readers = [self.begin(self.long, *lines) for lines in ((), (f'Range: bytes={SPANS}',))]
        writers = []
        for lines, body in (
                (('Content-Length: 100001',), IMAGE),
                (('Transfer-Encoding: chunked',), b'186a0\r\n' + IMAGE + b'\r\n'),
                (('Content-Length: 200000', 'Content-Type: multipart/form-data; boundary=b'),
                 b'--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n' + IMAGE)):
            writers.append(connect(self.gateways[0]))
            writers[-1].sendall(request_bytes('POST', '/v1/files', lines, body))

        def received():
            text = self.cluster.request('GET', '/metrics', address=admin)[2].decode()
            return metric(text, 'hayloft_gateway_upload_memory_bytes')
        wait_until(lambda: received() >= 3 * len(IMAGE), 'the gateway has what was sent')
        self.cluster.kill(self.cluster.process('gateway-1'))
        for reader in readers:
            self.check_short(*reader)
        for client in writers:
            with client:
                check_equal(read_to_end(client)[0], b'', 'the answer to a part of an upload')
        self.restore()
        check_equal(stored(), before, 'files that were stored')
        self.check_whole(self.long, self.ask('GET', self.long.path))


def run_all():
    origin = OriginTests()
    failed = True
    try:
        origin.start()
        tests = [getattr(origin, name) for name in vars(OriginTests) if name.startswith('test_')]
        try:
            main(tests)
        except SystemExit as ended:
            failed = bool(ended.code)
    finally:
        if failed:
            origin.cluster.print_logs()
        origin.cluster.__exit__(None, None, None)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    run_all()

#!/usr/bin/env python3
"""`hayloft key` and `hayloft sign`: files, a second reckoning of each MAC, and a gateway's word."""

import base64
import concurrent.futures
import contextlib
import hashlib
import hmac
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.parse

from harness import BIN, Cluster, check, check_equal, main, random_bytes, run, wait_until

HAYLOFT = f'{BIN}/hayloft'


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix='hayloft-test-') as path:
        yield path


def read(path):
    with open(path, encoding='ascii') as file:
        return file.read()


def write(path, text, mode=0o600):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), 'w',
              encoding='ascii') as file:
        file.write(text)
    os.chmod(path, mode)


def mac(secret, method, url):
    """The MAC of a URL as the documentation has it, by another implementation than ours."""
    parts = urllib.parse.urlsplit(url)
    given = dict(pair.split('=', 1) for pair in parts.query.split('&') if pair.startswith('hl-'))
    lines = ['hayloft-url-v1', method, parts.path, given['hl-expires'], given.get('hl-limit', ''),
             given.get('hl-type', ''), given.get('hl-nonce', ''), given['hl-key']]
    text = ''.join(line + '\n' for line in lines).encode()
    digest = hmac.new(secret, text, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b'=').decode(), given


def test_an_upload_key_is_told_once_and_its_file_has_the_hash():
    """stdout has the key alone; the file, or stderr, the line of its SHA-256."""
    with folder() as top:
        file = os.path.join(top, 'upload.keys')
        told = run(HAYLOFT, 'key', 'upload', 'phone-1', '--file', file)
        check(re.fullmatch(r'hlk_[\w-]{43}\n', told.stdout), f'a key alone: {told.stdout!r}')
        key = told.stdout.strip()
        digest = hashlib.sha256(key.encode()).hexdigest()
        check_equal(read(file), f'phone-1 {digest}\n', 'the file')
        check_equal(os.stat(file).st_mode & 0o777, 0o600, 'its mode')
        done = run(HAYLOFT, 'key', 'upload', 'phone-2')
        check(done.stdout != told.stdout, 'another key')
        digest = hashlib.sha256(done.stdout.strip().encode()).hexdigest()
        check(done.stderr.endswith(f'upload_keys:\nphone-2 {digest}\n'), done.stderr)
        done = json.loads(run(HAYLOFT, 'key', '--json', 'upload', 'a').stdout)
        check_equal(done['line'], 'a ' + hashlib.sha256(done['key'].encode()).hexdigest(), 'JSON')


def test_a_signing_key_goes_to_its_file_and_nowhere_else():
    """With --file nothing is printed; else the line, whose secret has 32 bytes."""
    with folder() as top:
        file = os.path.join(top, 'signing.keys')
        write(file, '# ours')  # without a newline at its end
        done = run(HAYLOFT, 'key', 'signing', 'k1', '--file', file)
        check_equal((done.stdout, done.stderr), ('', ''), 'nothing is printed')
        comment, line = read(file).splitlines()
        check_equal(comment, '# ours', 'what was there')
        check_equal(len(base64.urlsafe_b64decode(line.split(' ')[1] + '=')), 32, 'bytes')
        check(re.fullmatch(r'k2 [\w-]{43}\n', run(HAYLOFT, 'key', 'signing', 'k2').stdout), 'k2')


def test_key_refuses_and_leaves_the_file_as_it_was():
    """A name that is there, a file of the other kind, one open to others, wrong usage."""
    with folder() as top:
        file, other = os.path.join(top, 'upload.keys'), os.path.join(top, 'signing.keys')
        run(HAYLOFT, 'key', 'upload', 'a', '--file', file)
        run(HAYLOFT, 'key', 'signing', 'a', '--file', other)
        before = read(file), read(other)
        for words, why in ((('upload', 'a', '--file', file), 'line 2: the name is there already'),
                           (('signing', 'a', '--file', other), 'line 2: the name is there'),
                           (('upload', 'b', '--file', other), 'line 1: behind the name belongs'),
                           (('upload', 'b', '--file', top), 'Is a directory'),
                           (('upload', 'b', '--file', '/dev/null'), 'it is no file'),
                           (('upload', 'b', '--file', '/nowhere/keys'), 'No such file')):
            done = run(HAYLOFT, 'key', *words, wanted=1)
            check(why in done.stderr and done.stderr.count('\n') == 1, f'{words}: {done.stderr}')
            check_equal(done.stdout, '', f'{words} prints no key')
        os.chmod(file, 0o640)
        done = run(HAYLOFT, 'key', 'upload', 'b', '--file', file, wanted=1)
        check('open to other users' in done.stderr, done.stderr)
        check_equal((read(file), read(other)), before, 'the files')
        for words in ((), ('upload',), ('upload', 'a', 'b'), ('delete', 'a'), ('upload', 'a b'),
                      ('upload', 'x' * 65), ('signing', '')):
            run(HAYLOFT, 'key', *words, wanted=2)


def test_keys_made_at_the_same_time_all_get_their_line():
    """Sixteen at once, two of each name: eight lines, whole."""
    with folder() as top:
        file = os.path.join(top, 'keys')
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(
                lambda i: run(HAYLOFT, 'key', 'signing', f'k{i % 8}', '--file', file,
                              wanted=None).returncode, range(16)))
        check_equal(sorted(codes), [0] * 8 + [1] * 8, 'exit codes')
        check_equal(sorted(line.split(' ')[0] for line in read(file).splitlines()),
                    [f'k{i}' for i in range(8)], 'names')


def test_no_key_is_in_use_that_could_not_be_written():
    """A full disk: exit 1, no key is printed, no part of a line stays."""
    with folder() as top:
        file = os.path.join(top, 'keys')
        run(HAYLOFT, 'key', 'upload', 'a', '--file', file)
        size = os.path.getsize(file)
        limited = f'trap "" XFSZ; ulimit -f 1; exec {HAYLOFT} key upload b --file {file}'
        with open(file, 'a', encoding='ascii') as text:
            text.write('# ' + 'x' * (1024 - size - 13) + '\n')  # 10 bytes are left of 1 KiB
        before = read(file)
        check_equal(len(before), 1014, 'size')
        done = run('bash', '-c', limited, wanted=1)
        check_equal((done.stdout, read(file)), ('', before), f'nothing: {done.stderr}')
        check('File too large' in done.stderr, done.stderr)


def test_s15_a_signed_url_has_the_documented_mac():
    """Each kind of grant against Python's hmac; the default key is the last one."""
    with folder() as top:
        file = os.path.join(top, 'keys')
        secrets = {'hex': bytes(range(16)), 'base64': bytes(range(100, 133))}
        write(file, f'hex {secrets["hex"].hex()}\n# rotated\n'
                    f'base64 {base64.b64encode(secrets["base64"]).decode()}\n')
        path = '/AAAAAAAAAAAAAAAAAA.png'
        cases = ((('--path', path), 'GET', 'base64', {}),
                 (('--path', path, '--key', 'hex'), 'GET', 'hex', {}),
                 (('--url', f'https://i.example:8443{path}?download=a.png'), 'GET', 'base64', {}),
                 (('--url', 'http://h/v1/files', '--method', 'POST', '--limit', 1048576, '--type',
                   'image/*', '--once', '--key', 'hex'), 'POST', 'hex',
                  {'hl-limit': '1048576', 'hl-type': 'image/*'}),
                 (('--path', '/v1/files/AAAAAAAAAAAAAAAAAA', '--method', 'DELETE'), 'DELETE',
                  'base64', {}))
        for words, method, key, more in cases:
            before = int(time.time())
            url = run(HAYLOFT, 'sign', '--keys', file, '--for', '1h', *words).stdout.strip()
            wanted, given = mac(secrets[key], method, url)
            check_equal(given['hl-sig'], wanted, f'MAC of {url}')
            check_equal(given['hl-key'], key, 'key')
            check(before + 3600 <= int(given['hl-expires']) <= time.time() + 3600, 'expiry')
            check_equal({name: given[name] for name in more}, more, 'more')
            check_equal('hl-nonce' in given, '--once' in words, 'nonce')
            check(url.startswith(str(words[1])), f'{url} begins with what was given')
        told = json.loads(run(HAYLOFT, 'sign', '--json', '--keys', file, '--path', path,
                              '--expires', 1_900_000_000).stdout)
        check_equal((told['expires_s'], told['key']), (1_900_000_000, 'base64'), 'JSON')
        check_equal(mac(secrets['base64'], 'GET', told['url'])[0],
                    told['url'].rpartition('=')[2], 'MAC')


def test_sign_refuses_what_no_gateway_would_take():
    """Wrong usage is 2, a file or key that is not there 1; no secret is in a complaint."""
    with folder() as top:
        file, canary = os.path.join(top, 'keys'), 'c0ffee' * 8
        write(file, f'k1 {canary}\n')
        good = ['--keys', file, '--path', '/a', '--for', '1h']
        for words in ([], good[:4], good[2:], [*good, '--url', 'http://h/a'],
                      [*good, '--expires', 1_900_000_000], [*good[:4], '--expires', 1_000],
                      [*good, '--method', 'PUT'], [*good, '--limit', 5], [*good, '--type', 'a/b'],
                      [*good, '--once'], [*good[:4], '--for', '1 h'],
                      [*good[:4], '--for', '2d', '--once', '--method', 'POST'],
                      ['--keys', file, '--for', '1h', '--path', 'a'],
                      ['--keys', file, '--for', '1h', '--path', '/a b'],
                      ['--keys', file, '--for', '1h', '--url', '/a'],
                      [*good, '--method', 'POST', '--type', 'image'],
                      [*good, '--method', 'POST', '--limit', 0]):
            done = run(HAYLOFT, 'sign', *words, wanted=2)
            check(done.stderr.count('\n') == 1 and done.stdout == '', f'{words}: {done.stderr!r}')
        run(HAYLOFT, 'sign', *good, '--key', 'k2', wanted=1)
        run(HAYLOFT, 'sign', '--keys', file + '.not', *good[2:], wanted=1)
        write(file, f'k1 {canary}!\n')
        done = run(HAYLOFT, 'sign', *good, wanted=1)
        check('line 1: the secret is not hex' in done.stderr, done.stderr)
        check(canary not in done.stderr, 'the secret in the complaint')
        write(file, f'k1 {canary}\n', 0o644)
        done = run(HAYLOFT, 'sign', *good, wanted=1)
        check('open to other users' in done.stderr, done.stderr)


def test_a_gateway_takes_what_the_commands_made():
    """Key files of `hayloft key`; URLs of `hayloft sign` as printed, until they end or change."""
    with folder() as top:
        signing, uploads = os.path.join(top, 'signing.keys'), os.path.join(top, 'upload.keys')
        run(HAYLOFT, 'key', 'signing', 'k1', '--file', signing)
        key = run(HAYLOFT, 'key', 'upload', 'shop', '--file', uploads).stdout.strip()
        with Cluster(disks=1, directory_shards=0,
                     sets=[f'gateway.signing_keys={signing}', f'gateway.upload_keys={uploads}',
                           'gateway.signed_reads=true']) as cluster:
            cluster.up()
            body = random_bytes(1000)

            def sign(path, *words, life=('--for', '1h')):
                return run(HAYLOFT, 'sign', '--keys', signing, *life, '--url',
                           f'http://{cluster.gateway}{path}', *words).stdout.strip()

            def curl(url, *words):
                done = run('curl', '-s', '-w', '\n%{http_code}', *words, url, text=False)
                answer, _, status = done.stdout.rpartition(b'\n')
                return int(status), answer

            def post(url, data=body, *words):
                file = os.path.join(top, 'file')
                with open(file, 'wb') as out:
                    out.write(data)
                return curl(url, '--data-binary', '@' + file, *words)

            # The key stands in a file for curl, too: never on a command line.
            header = os.path.join(top, 'header')
            write(header, f'Authorization: Bearer {key}\n')
            files = f'http://{cluster.gateway}/v1/files'
            check_equal(post(files, body, '-H', '@' + header)[0], 201, 'with the upload key')
            check_equal(post(files)[0], 401, 'without one')
            once = sign('/v1/files', '--method', 'POST', '--limit', 1000, '--once')
            check_equal(post(once, body + b'x')[0], 413, 'beyond --limit')
            status, answer = post(once)
            check_equal(status, 201, 'a URL for POST')
            check_equal(post(once)[0], 403, 'the same once more')
            images = sign('/v1/files', '--method', 'POST', '--type', 'image/*')
            check_equal(post(images, b'<html>')[0], 415, 'another than --type')
            path = json.loads(answer)['url']
            read = sign(path)
            check_equal(curl(read), (200, body), 'a URL for GET')
            check_equal(curl(read, '-I')[0], 200, 'and for HEAD')
            check_equal(curl(f'http://{cluster.gateway}{path}')[0], 403, 'without one')
            check_equal(post(read.replace(path, '/v1/files'))[0], 403, 'for another path')
            later = re.sub(r'hl-expires=(\d)', r'hl-expires=9\1', read)
            for changed in (later, read[:-1], read.replace('hl-key=k1', 'hl-key=k2')):
                check(changed != read, 'it is another')
                check_equal(curl(changed)[0], 403, f'{changed} instead of {read}')
            brief = sign(path, life=('--expires', int(time.time()) + 2))
            wait_until(lambda: curl(brief)[0] == 410, 'a URL that ends')


def test_what_a_full_stdout_takes_not_is_a_failure():
    """/dev/full: exit 1, so that no script goes on with half of a URL."""
    with folder() as top, open('/dev/full', 'wb') as full:
        file = os.path.join(top, 'keys')
        run(HAYLOFT, 'key', 'signing', 'k1', '--file', file)
        for words in (['key', 'upload', 'a'], ['key', 'signing', 'a'],
                      ['sign', '--keys', file, '--path', '/a', '--for', '1h']):
            done = subprocess.run([HAYLOFT, *words], stdout=full, stderr=subprocess.PIPE,
                                  check=False, timeout=60)
            check_equal(done.returncode, 1, f'exit code of {words}')


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])

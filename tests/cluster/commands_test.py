#!/usr/bin/env python3
"""The command line and HTTP side by side, on one cluster of two dsps."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.parse

from harness import (BIN, TOP, Cluster, alive, check, check_equal, free_port, main, random_bytes,
                     run, wait_until)


def write_files(folder, count, seed=1):
    """`count` files of 1 byte to 70 KiB in some folders; returns {relative path: bytes}."""
    files = {}
    for i in range(count):
        path = f'{i % 7}/{"a b" if i % 5 == 0 else "x"}{i}.png'
        files[path] = random_bytes(1 + (i * 7919) % 70_000, seed * 100_000 + i)
        os.makedirs(os.path.join(folder, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(folder, path), 'wb') as file:
            file.write(files[path])
    return files


def read_manifest(path):
    with open(path, encoding='utf-8') as file:
        return {line.split('\t')[0]: line.rstrip('\n').split('\t')[1:] for line in file
                if '\t' in line}


def test_up_tells_what_runs_and_is_idempotent():
    """cluster.json is as documented; a second up changes nothing; samples are there once."""
    with Cluster(dataservers=2, disks=1, gateways=2) as cluster:
        first = cluster.up('--samples')
        urls = [line for line in first.stdout.splitlines() if line.startswith('http://')]
        check(len(urls) >= 3, lambda: f'URLs of samples in {first.stdout!r}')
        for url in urls:
            status, headers, body = cluster.request('GET', urllib.parse.urlparse(url).path)
            check_equal((status, headers['Content-Type']), (200, 'image/png'), url)
            check(body.startswith(b'\x89PNG'), 'a sample is a PNG')
        processes = cluster.processes()
        check_equal(sorted(p['role'] for p in processes),
                    ['dataserver'] * 2 + ['directory'] * 2 + ['dsp'] * 2 + ['gateway'] * 2 +
                    ['nameserver'] * 2,
                    'roles')
        for process in processes:
            check(alive(process['pid']), f'{process["name"]} runs')
            check_equal(os.getsid(process['pid']), process['pid'], 'a session of its own')
            check_equal(os.readlink(f'/proc/{process["pid"]}/cwd'), '/', 'folder')
            check_equal(os.readlink(f'/proc/{process["pid"]}/fd/0'), '/dev/null', 'stdin')
            check(os.path.isabs(process['data']), 'data is absolute')
            for key in ('address', 'http'):
                check(process[key].startswith('127.0.0.1:'), f'{key} of {process["name"]}')
        gateway_ports = [p['http'] for p in processes if p['role'] == 'gateway']
        check_equal(gateway_ports, [f'127.0.0.1:{cluster.port + i}' for i in range(2)], 'gateways')
        check_equal(os.stat(os.path.join(cluster.dir, 'secret')).st_mode & 0o777, 0o600, 'secret')
        second = cluster.up('--samples')
        check_equal(cluster.processes(), processes, 'processes after a second up')
        check_equal(second.stdout, first.stdout, 'output of a second up')
        for role, admin in ((p['role'], p['http']) for p in processes if p['role'] != 'gateway'):
            for path in ('/healthz', '/readyz', '/metrics', '/version'):
                check_equal(cluster.request('GET', path, address=admin)[0], 200, role + path)


def test_up_refuses_what_contradicts_and_what_is_unknown():
    """Exit 1 for a contradiction, 2 for wrong usage; nothing is touched."""
    with Cluster() as cluster:
        cluster.up()
        processes = cluster.processes()
        for words, code in ((['--disks', 3], 1), (['--copies', 2], 1), (['--gateways', 2], 1),
                            (['--port', free_port()], 1), (['--coordinator', 'etcd'], 1),
                            (['--set', 'dsp.trash_hours=24'], 1),
                            (['--set', 'nobody.option=1'], 1), (['--set', 'nonsense'], 1),
                            (['--coordinator', 'file'], 0), (['--coordinator', 'paper'], 2),
                            (['--directory-shards', 0], 1), (['--directory-shards', 1], 0),
                            (['--dataservers', 0], 2), (['--no-such-option'], 2)):
            own = ('--disks', '--gateways', '--port', '--copies', '--coordinator')
            shape = [] if words[0] in own else cluster.shape
            done = run(f'{BIN}/hayloft', 'cluster', 'up', '--dir', cluster.dir, *shape, *words,
                       wanted=None)
            check_equal(done.returncode, code, f'exit code of {words}: {done.stderr}')
            check(code == 0 or done.stderr.count('\n') == 1, f'one line: {done.stderr!r}')
        check_equal(cluster.processes(), processes, 'processes')


def test_f53_set_passes_options_and_checks_them_first():
    """An option that its role doesn't take stops the start before anything is made."""
    with Cluster(sets=['gateway.upload_bytes_max=1000', 'dsp.pool_files=1']) as cluster:
        for wrong in ('dsp.no_such_option=1', 'dsp.trash_hours=0', 'gateway.loops=x'):
            done = cluster.up('--set', wrong, wanted=1)
            check(wrong.split('.')[1].split('=')[0].replace('_', '-') in
                  done.stderr.replace('_', '-'), f'the option is named: {done.stderr!r}')
            check_equal((done.stdout, os.listdir(cluster.dir)), ('', []), 'nothing is left')
        cluster.up()
        status, _, body = cluster.request('POST', '/v1/files', b'x' * 1001)
        check_equal((status, json.loads(body)['error']), (413, 'too_large'), 'over the option')
        cluster.upload(b'x' * 1000)
        cluster.down()
        cluster.up('--set', 'gateway.upload_bytes_max=2000')
        cluster.upload(b'x' * 2000)


def test_readme_walk_through():
    """The lines of README.md, "Two commands", one after the other, on a cluster as users get it."""
    with open(os.path.join(TOP, 'README.md'), encoding='utf-8') as file:
        block = re.search(r'Then:\n\n(.*?)\n\n##', file.read(), re.S)[1]
    lines = [line.split(' # ')[0].strip() for line in block.splitlines() if line.strip()]
    check(len(lines) >= 8, f'lines of the walk-through: {lines}')
    with Cluster() as cluster:
        cluster.up('--samples')
        home = os.path.join(cluster.dir, 'home')
        pictures = write_files(os.path.join(home, 'Pictures'), 20)
        body = b'\xff\xd8\xff\xe0' + random_bytes(70_000)
        with open(os.path.join(home, 'photo.jpg'), 'wb') as file:
            file.write(body)
        told = {}
        for line in lines:
            if line.startswith('xdg-open'):
                continue
            line = line.replace('http://127.0.0.1:8080', f'http://{cluster.gateway}')
            line = line.replace('bin/hayloft', f'{BIN}/hayloft').replace(
                'make down', f'{BIN}/hayloft cluster down --dir {cluster.dir}')
            line = line.replace(' put ', f' put --dir {cluster.dir} ').replace(
                ' get ', f' get --dir {cluster.dir} ').replace(
                    'status', f'status --dir {cluster.dir}')
            for word, name in (('ID', 'id'), ('TOKEN', 'delete_token')):
                line = re.sub(rf'\b{word}\b', told.get(name, word), line)
            done = run('bash', '-c', f'curl() {{ command curl -sSf "$@"; }}; {line}', cwd=home,
                       env=dict(os.environ, HOME=home))
            told = told or json.loads(done.stdout)
            if '-O' in line:
                with open(os.path.join(home, told['id'] + '.jpg'), 'rb') as file:
                    check_equal(file.read(), body, line)
            if 'DELETE' in line:
                check_equal(cluster.request('GET', '/' + told['id'])[0], 410, line)
            if ' get ' in line:
                check(f'{len(pictures)} files' in done.stdout, f'{line}: {done.stdout}')
        check_equal(cluster.processes(), [], 'what runs in the end')


def test_up_gives_the_terminal_back():
    """`hayloft cluster up | cat` ends: no process keeps the pipe."""
    with Cluster() as cluster:
        words = ' '.join(str(word) for word in cluster.shape)
        start = time.monotonic()
        done = run('sh', '-c', f'{BIN}/hayloft cluster up --dir {cluster.dir} {words} | cat')
        check('http://' in done.stdout, 'the output came through the pipe')
        check(time.monotonic() - start < 30, 'the pipe was closed')


@contextlib.contextmanager
def listening(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(('127.0.0.1', port))
        listener.listen()
        yield


def test_f53_a_port_in_use_is_one_line_and_nothing_is_done():
    """A gateway's port is taken: up says so first. While no gateway runs the port may change."""
    with Cluster(gateways=2) as cluster:
        with listening(cluster.port + 1):
            done = cluster.up(wanted=1)
            check_equal(done.stderr, f'hayloft: gateway-2: port {cluster.port + 1} is in use; '
                        'choose another with --port\n', 'the complaint')
            check_equal(os.listdir(cluster.dir), [], 'what is left in the folder')
        cluster.up()
        file_id = cluster.upload(b'after all')['id']
        cluster.down()
        with listening(cluster.port):
            cluster.up(wanted=1)
            check_equal(cluster.processes(), [], 'nothing was started')
            cluster.port = free_port()
            cluster.gateway = f'127.0.0.1:{cluster.port}'
            cluster.shape[-1] = cluster.port
            cluster.up()
        check_equal(cluster.download(file_id), b'after all', 'by the new port')


def test_down_of_a_folder_that_holds_no_cluster_writes_nothing():
    """Exit 0, a line that says so, and not even a lock file."""
    with Cluster() as cluster:
        for folder in (cluster.dir, '/nowhere/at/all'):
            done = run(f'{BIN}/hayloft', 'cluster', 'down', '--json', '--dir', folder)
            check('there is no cluster in ' + folder in done.stderr, f'said: {done.stderr!r}')
            check_equal(json.loads(done.stdout), {'processes': []}, 'what runs')
        check_equal(os.listdir(cluster.dir), [], 'what is in the folder')


def test_a_damaged_list_of_processes_is_told_with_what_to_do():
    """Both commands say it, and not that a port is in use; nothing is stopped or started."""
    with Cluster() as cluster:
        cluster.up()
        path = os.path.join(cluster.dir, 'cluster.json')
        with open(path, encoding='utf-8') as file:
            whole = file.read()
        with open(path, 'w', encoding='utf-8') as file:
            file.write(whole[:len(whole) // 2])
        try:
            for command in ('up', 'down'):
                done = run(f'{BIN}/hayloft', 'cluster', command, '--dir', cluster.dir, wanted=1)
                check(f'{path} is damaged' in done.stderr and 'pgrep' in done.stderr, done.stderr)
        finally:
            with open(path, 'w', encoding='utf-8') as file:
                file.write(whole)
        cluster.upload(b'it was not stopped')


def test_down_does_not_wait_for_an_up_that_waits():
    """A gateway that never gets ready holds up `up`, but not `down`."""
    with Cluster() as cluster:
        cluster.up()
        cluster.kill(cluster.process('gateway-1'), signal.SIGSTOP)
        words = [f'{BIN}/hayloft', 'cluster', 'up', '--dir', cluster.dir]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as up:
            wait_until(lambda: is_waiting(up.pid), 'up waits for the cluster')
            start = time.monotonic()
            cluster.down()
            check(time.monotonic() - start < 32, 'down did not wait for up')
            check_equal(up.wait(timeout=30), 1, 'exit code of up')
            check(' ended: ' in up.stderr.read(), 'up says why it gave up')


def is_waiting(pid):
    """Whether a process has sockets: `up` opens its first when nothing is left to be started."""
    with contextlib.suppress(OSError):
        return any(os.readlink(f'/proc/{pid}/fd/{fd}').startswith('socket:')
                   for fd in os.listdir(f'/proc/{pid}/fd'))
    return False


def test_a_file_by_http_and_by_command():
    """Whichever way it came, a file is read, deleted and undeleted by the other one, too."""
    with Cluster() as cluster:
        cluster.up()
        path = os.path.join(cluster.dir, 'image.png')
        body = b'\x89PNG\r\n\x1a\n' + random_bytes(150_000)
        with open(path, 'wb') as file:
            file.write(body)
        stored = json.loads(cluster.hayloft('put', '--json', path).stdout)
        other = body + b'x'
        by_http = cluster.upload(other)
        for file, body in ((stored, body), (by_http, other)):
            check_equal((file['size'], file['sha1'], file['content_type']),
                        (len(body), hashlib.sha1(body).hexdigest(), 'image/png'), 'what is told')
            check_equal(cluster.download(file['id']), body, 'GET')
            check_equal(cluster.hayloft('get', file['id'], text=False).stdout, body, 'get')
            told = json.loads(cluster.hayloft('stat', '--json', file['id']).stdout)
            status, _, answer = cluster.request('GET', '/v1/files/' + file['id'])
            check_equal((status, json.loads(answer)), (200, told), 'stat and GET /v1/files/ID')
            dsp = told['replicas'][0]['dsp']
            check(dsp in [p['address'] for p in cluster.processes('dsp')], 'the replica is a dsp')
            check_equal(cluster.hayloft('get', '--dsp', dsp, file['id'], text=False).stdout, body,
                        'get from the dsp itself')
            others = [p['address'] for p in cluster.processes('dsp') if p['address'] != dsp]
            cluster.hayloft('get', '--dsp', others[0], '--timeout-ms', 1000, file['id'], wanted=1)
        delete_and_undelete(cluster, stored, by_http, other)


def delete_and_undelete(cluster, stored, by_http, other):
    """The bytes of `by_http` are `other`, those of `stored` all of them but the last."""
    files = ((stored, other[:-1]), (by_http, other))
    cluster.hayloft('rm', stored['id'], '--token', by_http['delete_token'], wanted=1)
    cluster.hayloft('rm', stored['id'], wanted=1)
    for _ in range(2):  # a repeated delete is fine
        cluster.hayloft('rm', stored['id'], '--token', stored['delete_token'])
        status, _, _ = cluster.request('DELETE', '/v1/files/' + by_http['id'],
                                       headers={'Hayloft-Delete-Token': by_http['delete_token']})
        check_equal(status, 204, 'DELETE')
    for file, body in files:
        check_equal(cluster.request('GET', '/' + file['id'])[0], 410, 'GET of a deleted file')
        cluster.hayloft('get', file['id'], wanted=1)
        check_equal(cluster.hayloft('get', '--deleted', file['id'], text=False).stdout, body,
                    'get --deleted')
        check(json.loads(cluster.hayloft('stat', '--json', file['id']).stdout)['deleted'], 'stat')
    wait_until(lambda: cluster.status()['files'] == {'live': 0, 'deleted': 2, 'lost': 0},
               'status counts them')
    # Each is taken back by the other way.
    cluster.hayloft('undelete', by_http['id'], '--token', by_http['delete_token'])
    status, _, _ = cluster.request('POST', f'/v1/files/{stored["id"]}/undelete',
                                   headers={'Hayloft-Delete-Token': stored['delete_token']})
    check_equal(status, 200, 'undelete by HTTP')
    for file, body in files:
        check_equal(cluster.download(file['id']), body, 'GET after an undelete')


def test_put_get_and_rm_of_a_folder_by_manifest():
    """put -r, verify, get -o, rm by manifest; the counts agree with status."""
    with Cluster() as cluster:
        cluster.up()
        source, manifest = os.path.join(cluster.dir, 'in'), os.path.join(cluster.dir, 'm.tsv')
        files = write_files(source, 300)
        open(os.path.join(source, 'empty'), 'wb').close()
        done = cluster.hayloft('put', '-r', source, '--manifest', manifest, wanted=1)
        check('empty: the file is empty' in done.stderr, f'the empty file is named: {done.stderr}')
        os.remove(os.path.join(source, 'empty'))
        cluster.hayloft('put', '-r', source, '--manifest', manifest)  # nothing is left to do
        lines = read_manifest(manifest)
        check_equal(sorted(lines), sorted(files), 'paths in the manifest')
        check_equal(len({file_id for file_id, _ in lines.values()}), 300, 'ids')
        for path in list(files)[::17]:
            check_equal(cluster.download(lines[path][0]), files[path], path)
        done = cluster.hayloft('get', '--manifest', manifest, '--verify', source)
        check_equal(done.stdout, '300 files are as they were\n', 'verify')
        out = os.path.join(cluster.dir, 'out')
        os.mkdir(out)
        cluster.hayloft('get', '--manifest', manifest, '-o', out)
        run('diff', '-r', source, out)
        with open(os.path.join(source, next(iter(files))), 'ab') as file:
            file.write(b'!')
        cluster.hayloft('get', '--manifest', manifest, '--verify', source, wanted=1)
        wait_until(lambda: cluster.status()['files']['live'] == 300, 'status counts the files')
        cluster.hayloft('rm', '--manifest', manifest)
        wait_until(lambda: cluster.status()['files']['deleted'] == 300, 'and the deleted ones')


def test_put_to_a_place_that_takes_no_output_fails():
    """/dev/full as stdout or manifest: exit 1, and the id of what was stored is told."""
    with Cluster() as cluster:
        cluster.up()
        path = os.path.join(cluster.dir, 'one')
        with open(path, 'wb') as file:
            file.write(b'one')
        stored = cluster.hayloft('put', path).stdout.split('\t')[1]
        for words in (['put', path], ['put', '--json', path], ['get', stored], ['stat', stored],
                      ['status'], ['status', '--json'], ['put', '--help']):
            with open('/dev/full', 'wb') as full:
                done = subprocess.run([f'{BIN}/hayloft', *words, '--dir', cluster.dir], stdout=full,
                                      stderr=subprocess.PIPE, text=True, check=False, timeout=60)
            check_equal(done.returncode, 1, f'exit code of {words}')
            if words[-1] == path:
                file_id = done.stderr.split('was stored as ')[1].strip()
                check_equal(cluster.download(file_id), b'one', 'the id that was told')


def test_put_takes_no_file_for_another():
    """Folders with the same names in them, another folder's manifest, the manifest itself."""
    with Cluster() as cluster:
        cluster.up()
        one, two = os.path.join(cluster.dir, 'in-1'), os.path.join(cluster.dir, 'in-2')
        write_files(one, 3, seed=1)
        write_files(two, 3, seed=2)
        manifest = os.path.join(one, 'm.tsv')
        done = cluster.hayloft('put', '-r', one, two, wanted=1)
        check('two of the folders have a file 0/a b0.png' in done.stderr, done.stderr)
        for _ in range(2):
            cluster.hayloft('put', '-r', one, '--manifest', manifest)
            check_equal(len(read_manifest(manifest)), 3, 'the manifest is not in itself')
        done = cluster.hayloft('put', '-r', two, '--manifest', manifest, wanted=1)
        check('it is not of ' + two in done.stderr, done.stderr)
        check_equal(len(read_manifest(manifest)), 3, 'lines of the refused put')
        with open(manifest, 'rb+') as file:  # as an editor may leave it; then without its token
            file.truncate(os.path.getsize(manifest) - 1)
        done = cluster.hayloft('get', '--manifest', manifest, '--verify', one)
        check_equal(done.stdout, '3 files are as they were\n', 'verify')
        path, (file_id, _) = list(read_manifest(manifest).items())[0]
        bare = os.path.join(cluster.dir, 'bare.tsv')
        with open(bare, 'w', encoding='utf-8') as file:
            file.write(f'{path}\t{file_id}')
        done = cluster.hayloft('get', '--json', '--manifest', bare, '--verify', one)
        check_equal(json.loads(done.stdout), {'verified': 1, 'failed': 0}, 'get without tokens')
        cluster.hayloft('rm', '--manifest', bare, wanted=1)


def test_what_is_wrong_with_a_local_file_is_said_in_the_systems_words():
    """Absent, a folder; and what `get --json` prints."""
    with Cluster() as cluster:
        cluster.up()
        absent = os.path.join(cluster.dir, 'absent')
        for words, wanted in ((['put', absent], absent + ': No such file or directory'),
                              (['put', cluster.dir], 'it is a folder; use -r'),
                              (['put', '-r', absent], absent + ': No such file or directory'),
                              (['rm', '--manifest', absent], absent + ': No such file or dir')):
            done = cluster.hayloft(*words, wanted=None)
            check(done.returncode != 0 and wanted in done.stderr, f'{words}: {done.stderr!r}')
            check('cookie' not in done.stderr, done.stderr)
        name = os.fsencode(cluster.dir) + b'/caf\xe9'
        with open(name, 'wb') as file:
            file.write(b'image')
        told = json.loads(run(f'{BIN}/hayloft', 'put', '--json', '--dir', cluster.dir,
                              os.fsdecode(name)).stdout)
        check(told['path'].endswith('/caf\ufffd'), told['path'])
        out = os.path.join(cluster.dir, 'out')
        done = cluster.hayloft('get', '--json', told['id'], '-o', out)
        check_equal(json.loads(done.stdout), {'id': told['id'], 'path': out, 'size': 5}, 'get')
        cluster.hayloft('get', '--json', told['id'], wanted=2)


def test_addresses_and_keys_that_are_wrong_are_said_to_be():
    """No retries against an address that is none; a wrong key is no dead cluster."""
    with Cluster() as cluster:
        cluster.up()
        nameserver = cluster.processes('nameserver')[0]['address']
        for words in (('get', '--dsp', 'garbage', 'A' * 18), ('status', '--cluster', 'localhost:1'),
                      ('put', '--cluster', nameserver + ',x', '-'), ('stat', '--cluster', ':', 'A'),
                      ('cluster', 'status', '--cluster', 'x'),
                      ('cluster', 'down', '--cluster', nameserver)):
            done = run(f'{BIN}/hayloft', *words, wanted=2, timeout=5)
            check_equal(done.stderr.count('\n'), 1, f'lines of {done.stderr!r}')
        key = os.path.join(cluster.dir, 'other-key')
        with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), 'w', encoding='ascii') as file:
            file.write('k' * 64)
        done = cluster.hayloft('status', '--cluster-key-file', key, wanted=1)
        check_equal(done.stderr, 'hayloft: the cluster key is wrong\n', 'status')
        for words in (('status',), ('cluster', 'status')):
            done = run(f'{BIN}/hayloft', *words, '--json', '--cluster', nameserver, '--dir', '/no')
            check_equal(json.loads(done.stdout)['nameservers'][0]['address'], nameserver, words)


def test_put_goes_on_after_a_kill():
    """What is in the manifest is stored; a torn last line and the rest are uploaded again."""
    with Cluster() as cluster:
        cluster.up()
        source, manifest = os.path.join(cluster.dir, 'in'), os.path.join(cluster.dir, 'm.tsv')
        files = write_files(source, 2500)
        command = [f'{BIN}/hayloft', 'put', '--dir', cluster.dir, '-r', source,
                   '--manifest', manifest, '--in-flight', '4']
        with subprocess.Popen(command) as put:
            wait_until(lambda: os.path.exists(manifest) and os.path.getsize(manifest) > 10_000,
                       'some lines are written')
            put.send_signal(signal.SIGKILL)
        first = read_manifest(manifest)
        check(0 < len(first) < len(files), f'{len(first)} of {len(files)} lines before the kill')
        with open(manifest, 'ab') as file:
            file.write(b'torn\tAAAA')
        cluster.hayloft('put', '-r', source, '--manifest', manifest)
        second = read_manifest(manifest)
        check_equal({path: second[path] for path in first}, first, 'the first lines')
        check_equal(sorted(second), sorted(files), 'paths')
        cluster.hayloft('get', '--manifest', manifest, '--verify', source)


def test_put_that_is_interrupted_tells_what_it_stored():
    """SIGINT, SIGTERM: what is under way ends in the manifest, and a rerun stores only the rest."""
    with Cluster() as cluster:
        cluster.up()
        source, manifest = os.path.join(cluster.dir, 'in'), os.path.join(cluster.dir, 'm.tsv')
        files = write_files(source, 2500)
        command = [f'{BIN}/hayloft', 'put', '--dir', cluster.dir, '-r', source,
                   '--manifest', manifest, '--in-flight', '16']
        before = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as put:
                wait_until(lambda size=before: os.path.exists(manifest) and
                           os.path.getsize(manifest) > size + 10_000, 'some lines are written')
                put.send_signal(number)
                told = put.communicate(timeout=60)[1]
            before = os.path.getsize(manifest)
            lines = read_manifest(manifest)
            check_equal(put.returncode, 128 + number, 'exit code')
            check(0 < len(lines) < len(files), f'{len(lines)} of {len(files)} lines')
            check_equal(told, 'hayloft: interrupted: not stored or not known to be: '
                        f'{len(files) - len(lines)}; the same command goes on with them\n', 'told')
            wait_until(lambda count=len(lines): cluster.status()['files']['live'] == count,
                       'no file is stored without a line')
        cluster.hayloft('put', '-r', source, '--manifest', manifest)
        check_equal(sorted(read_manifest(manifest)), sorted(files), 'paths')
        cluster.hayloft('get', '--manifest', manifest, '--verify', source)
        wait_until(lambda: cluster.status()['files']['live'] == len(files), 'none is there twice')


def test_a_single_put_that_is_interrupted_ends_soon():
    """No answer comes: 128 + signal after a grace time, at once by a second signal."""
    with Cluster() as cluster:
        cluster.up()
        path = os.path.join(cluster.dir, 'one')
        with open(path, 'wb') as file:
            file.write(b'one')
        command = [f'{BIN}/hayloft', 'put', '--dir', cluster.dir]
        with subprocess.Popen(command + ['-'], stdin=subprocess.PIPE) as put:
            wait_until(lambda: reads_its_input(put.pid), 'it reads')
            check(not catches(put.pid, signal.SIGINT), 'it does not catch what is to end it')
            put.send_signal(signal.SIGINT)
            check_equal(put.wait(timeout=5), -signal.SIGINT, 'while it waits for standard input')
        nameservers = cluster.processes('nameserver')
        for nameserver in nameservers:
            cluster.kill(nameserver, signal.SIGSTOP)
        for count, wanted in ((1, 128 + signal.SIGTERM), (2, -signal.SIGTERM)):
            with subprocess.Popen(command + [path], stderr=subprocess.PIPE, text=True) as put:
                wait_until(lambda: is_waiting(put.pid), 'it waits for the nameserver')
                start = time.monotonic()
                put.send_signal(signal.SIGTERM)
                if count == 2:
                    wait_until(lambda: not catches(put.pid, signal.SIGTERM), 'the first was taken')
                    put.send_signal(signal.SIGTERM)
                told = put.communicate(timeout=30)[1]
            check_equal(put.returncode, wanted, f'exit code after {count} signals: {told!r}')
            check(time.monotonic() - start < (9 if count == 1 else 4), 'in time')
            check(count == 2 or told.endswith('not known to be: 1\n'), told)
        for nameserver in nameservers:
            cluster.kill(nameserver, signal.SIGCONT)


def reads_its_input(pid):
    """It opens its standard input once more, right before it reads."""
    folder = f'/proc/{pid}/fd'
    with contextlib.suppress(OSError):
        files = [os.readlink(os.path.join(folder, each)) for each in os.listdir(folder)]
        return files.count(os.readlink(folder + '/0')) > 1
    return False


def catches(pid, number):
    with open(f'/proc/{pid}/status', encoding='ascii') as file:
        caught = next(line for line in file if line.startswith('SigCgt:'))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_standard_input_and_exit_codes():
    """- is standard input; usage is 2, not found 1."""
    with Cluster() as cluster:
        cluster.up()
        body = random_bytes(5000)
        done = cluster.hayloft('put', '--json', '-', input=body, text=False)
        file_id = json.loads(done.stdout)['id']
        check_equal(cluster.download(file_id), body, 'from standard input')
        target = os.path.join(cluster.dir, 'target')
        cluster.hayloft('get', file_id, '-o', target)
        with open(target, 'rb') as file:
            check_equal(file.read(), body, 'get -o')
        flipped = file_id[:-1] + ('A' if file_id[-1] != 'A' else 'Q')
        for words, code in ((('get', flipped), 1), (('get', 'A' * 18), 1), (('get', 'short'), 2),
                            (('get',), 2), (('put',), 2), (('rm', '--no-such'), 2),
                            (('put', '/nowhere/file'), 1), (('stat', 'A' * 18), 1)):
            done = cluster.hayloft(*words, wanted=None)
            check_equal(done.returncode, code, f'exit code of {words}: {done.stderr}')
        for wrong, why in (('short', 'an id has 18 characters'),
                           ('A' * 17 + 'B', 'an id ends in A, Q, g or w'),
                           ('/' + 'A' * 17 + 'B.jpg', 'an id ends in A, Q, g or w'),
                           ('A' * 17 + '+', "an id has only letters, digits, '-' and '_'")):
            done = cluster.hayloft('get', wrong, wanted=2)
            check_equal(done.stderr, f'hayloft: {wrong} is no id: {why}\n', 'the reason')
        for path in ('/favicon.ico', '/robots.txt'):
            check_equal(cluster.request('GET', path)[0], 404, path)
        run(f'{BIN}/hayloft', 'no-such-command', wanted=2)
        run(f'{BIN}/hayloft', wanted=2)
        for binary in os.listdir(BIN):
            if binary.startswith('hayloft'):
                check('0.1.0' in run(f'{BIN}/{binary}', '--version').stdout, binary)
        nameserver = cluster.processes('nameserver')[0]['address']
        done = run(f'{BIN}/hayloft', 'status', '--json', '--cluster', nameserver, '--dir',
                   '/nowhere')
        check_equal(json.loads(done.stdout)['nameservers'][0]['address'], nameserver, '--cluster')
        run(f'{BIN}/hayloft', 'status', '--cluster', f'127.0.0.1:{free_port()}', wanted=1)


def test_bench_verifies_what_it_reads():
    """A short load with reads; its JSON has what a report needs."""
    with Cluster() as cluster:
        cluster.up()
        done = cluster.hayloft('bench', '--json', '--seconds', 2, '--concurrency', 8,
                               '--read-percent', 50)
        report = json.loads(done.stdout)
        check_equal(report['mismatches'], 0, 'wrong bytes')
        for kind in ('uploads', 'reads'):
            check(report[kind]['count'] > 50, f'{kind} were done: {report}')
            check_equal(report[kind]['errors'], 0, f'errors of {kind}')


if __name__ == '__main__':
    main([value for name, value in list(globals().items()) if name.startswith('test_')])

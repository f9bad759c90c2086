"""Caches and proxies in front of a cluster: the sample configurations of docs/fronts, with other
addresses and folders, as processes of their own in the foreground."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

from harness import TOP, admin_address, check, free_port, metric, run, wait_until

SAMPLES = os.path.join(TOP, 'docs', 'fronts')


def sample(name, replacements):
    """A sample configuration with each text of `replacements` replaced: all must be there."""
    with open(os.path.join(SAMPLES, name), encoding='utf-8') as file:
        text = file.read()
    for old, new in replacements.items():
        check(old in text, f'{name} holds {old!r}')
        text = text.replace(old, new)
    return text


def is_listening(port):
    with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), timeout=1):
        return True
    return False


class Front:
    """A process in front of the gateways; its own folder, a free port, ended by its pid."""

    def __init__(self, cluster, name):
        self.dir = os.path.join(cluster.dir, name)
        self.port = free_port()
        self.address = f'127.0.0.1:{self.port}'
        self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        return path

    def start(self, *command, **kwargs):
        with open(os.path.join(self.dir, 'output'), 'wb') as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=subprocess.STDOUT, start_new_session=True,
                                            **kwargs)
        try:
            wait_until(lambda: is_listening(self.port) or self.process.poll() is not None,
                       f'{command[0]} listens')
            check(self.process.poll() is None, lambda: f'{command[0]} ended: {self.output()}')
        except BaseException:
            self.__exit__()
            raise

    def output(self):
        with open(os.path.join(self.dir, 'output'), encoding='utf-8', errors='replace') as file:
            return file.read()[-2000:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)  # its own session: itself and its workers
            self.process.wait()


def gateway_addresses(cluster):
    return [f'127.0.0.1:{cluster.port}', f'127.0.0.1:{cluster.port + 1}']


class Relay:
    """Passes connections on to a gateway, and holds the answers back beyond so many bytes until
    `go` is set: what is to happen in the middle of a file then happens there."""

    def __init__(self, upstream, hold_bytes):
        self.upstream, self.left = upstream, hold_bytes
        self.go = threading.Event()
        self.held = threading.Event()
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.address = f'127.0.0.1:{self.listener.getsockname()[1]}'
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client = self.listener.accept()[0]
                host, port = self.upstream.split(':')
                gateway = socket.create_connection((host, int(port)))
                for pump in ((client, gateway, False), (gateway, client, True)):
                    threading.Thread(target=self.pump, args=pump, daemon=True).start()

    def pump(self, source, sink, is_answer):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if is_answer:
                    self.left -= len(piece)
                    if self.left < 0:
                        self.held.set()
                        self.go.wait()
                sink.sendall(piece)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()
        self.listener.close()


class Nginx(Front):
    def __init__(self, cluster, upstreams=None):
        super().__init__(cluster, 'nginx')
        first, second = upstreams or gateway_addresses(cluster)
        temporary = ''.join(f'{module}_temp_path {self.dir}/{module}; ' for module in
                            ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        config = self.write('nginx.conf', sample('nginx.conf', {
            '127.0.0.1:8080': first, '127.0.0.1:8081': second, '127.0.0.1:8000': self.address,
            '/var/cache/nginx/hayloft': self.dir + '/cache', '/var/log/nginx': self.dir,
            '/run/nginx.pid': self.dir + '/pid', 'user www-data;': '',
            'worker_processes auto;': 'worker_processes 2;' + (' user root;' * (os.geteuid() == 0)),
            'http {': 'http { ' + temporary}))
        self.start('nginx', '-p', self.dir, '-c', config, '-e', self.dir + '/error.log',
                   '-g', 'daemon off;')

    def statuses(self):
        """$upstream_cache_status of each request so far, in order: the cache's own word."""
        with open(self.dir + '/hayloft.log', encoding='utf-8') as file:
            return re.findall(r'" \d+ \d+ (\S+) ', file.read())


class Varnish(Front):
    def __init__(self, cluster, upstreams=None):
        super().__init__(cluster, 'varnish')
        first, second = (address.split(':')[1]
                         for address in upstreams or gateway_addresses(cluster))
        self.start('varnishd', '-F', '-n', self.dir + '/work', '-j', 'none', '-a', self.address,
                   '-s', 'malloc,128m', '-f',
                   self.write('hayloft.vcl', sample('varnish.vcl', {
                       '"8080"': f'"{first}"', '"8081"': f'"{second}"'})))

    def counter(self, name):
        """Of varnishstat: the cache's own count."""
        told = run('varnishstat', '-n', self.dir + '/work', '-1', '-f', name).stdout
        return int(told.split()[1])


class Haproxy(Front):
    def __init__(self, cluster):
        super().__init__(cluster, 'haproxy')
        first, second = gateway_addresses(cluster)
        self.start('haproxy', '-db', '-f', self.write('haproxy.cfg', sample('haproxy.cfg', {
            '127.0.0.1:8080': first, '127.0.0.1:8081': second, '127.0.0.1:8000': self.address})))


class TrafficServer(Front):
    def __init__(self, cluster):
        super().__init__(cluster, 'trafficserver')
        for folder in ('run', 'log', 'cache'):
            os.makedirs(os.path.join(self.dir, folder))
        shutil.copytree('/etc/trafficserver', self.dir + '/etc')
        first, second = gateway_addresses(cluster)
        for name, replacements in (
                ('remap.config', {'images.example': self.address}),
                ('parent.config', {'127.0.0.1:8080': first, '127.0.0.1:8081': second}),
                ('records.config', {'server_ports STRING 8000': f'server_ports STRING {self.port}'})
        ):
            self.write('etc/' + name, sample('trafficserver/' + name, replacements))
        self.write('etc/storage.config', self.dir + '/cache 64M\n')
        layout = self.write('layout.yaml', ''.join(
            f'{name}: {folder}\n' for name, folder in (
                ('sysconfdir', self.dir + '/etc'), ('runtimedir', self.dir + '/run'),
                ('localstatedir', self.dir + '/run'), ('logdir', self.dir + '/log'),
                ('cachedir', self.dir + '/cache'),
                ('libexecdir', '/usr/lib/trafficserver/modules'))))
        user = {}
        if os.geteuid() == 0:  # it refuses to be root
            user = {'user': 'nobody'}
            os.chmod(cluster.dir, 0o711)
            run('chmod', '-R', 'a+rwX', self.dir)
        self.start('traffic_server', '--run-root=' + layout, **user)


def counter(cluster, name):
    """hayloft_gateway_<name>, summed over the gateways."""
    total = 0
    for gateway in cluster.processes('gateway'):
        text = cluster.request('GET', '/metrics', address=admin_address(gateway))[2].decode()
        total += int(metric(text, 'hayloft_gateway_' + name))
    return total


class OriginReads:
    """How many reads reached the gateways inside of a `with`: those with bytes and those that were
    answered with 304. Health checks are no reads."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.before = []
        self.full = self.revalidated = 0

    def counts(self):
        return [counter(self.cluster, name) for name in ('reads_total', 'revalidated_total')]

    def __enter__(self):
        self.before = self.counts()
        return self

    def __exit__(self, *_):
        self.full, self.revalidated = (now - then for now, then
                                       in zip(self.counts(), self.before))

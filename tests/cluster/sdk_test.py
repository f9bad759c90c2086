#!/usr/bin/env python3
"""The SDK as a stranger meets it: installed files only, compiled, linked and run."""

import os
import re
import shutil
import subprocess
import tempfile

from harness import TOP, Cluster, check, check_equal, main, run, wait_until

EXAMPLE = os.path.join(TOP, 'client', 'examples', 'example_main.cc')
STRANGER = os.path.join(TOP, 'tests', 'cluster', 'sdk_stranger.cc')
DOCS = os.path.join(TOP, 'docs', 'sdk.md')
# What the shared library may show: the public classes and functions.
PUBLIC = ('hayloft::Client::', 'hayloft::Status::', 'hayloft::Image::', 'hayloft::SetLogger',
          'hayloft::Version')

CMAKE = '''cmake_minimum_required(VERSION 3.13)
project(stranger CXX)
find_package(hayloft 0.1 CONFIG REQUIRED)
foreach(kind hayloft hayloft_static)
  add_executable(with_${kind} example_main.cc)
  target_link_libraries(with_${kind} hayloft::${kind})
endforeach()
'''


class Installed:
    """`make install` into a folder that is gone afterwards; the tree's headers are not in reach."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='hayloft-sdk-')
        self.prefix = os.path.join(self.dir, 'to', 'opt', 'hayloft')
        self.lib = os.path.join(self.prefix, 'lib')

    def __enter__(self):
        try:
            run('make', '--no-print-directory', 'install', 'MODE=release',
                f'DESTDIR={self.dir}/to', 'PREFIX=/opt/hayloft', cwd=TOP, timeout=900)
            shutil.copy(EXAMPLE, self.dir)
            shutil.copy(STRANGER, self.dir)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)

    def flags(self, *words):
        environment = dict(os.environ, PKG_CONFIG_PATH=os.path.join(self.lib, 'pkgconfig'))
        return run('pkg-config', *words, 'hayloft', env=environment).stdout.split()

    def compile(self, output, flags, source='example_main.cc'):
        run('g++', '-std=c++17', '-Wall', '-Wextra', '-Werror', source, '-o', output, *flags,
            cwd=self.dir)
        return os.path.join(self.dir, output)

    def build_as_documented(self):
        """The command of docs/sdk.md, word for word."""
        with open(DOCS, encoding='utf-8') as file:
            command = re.search(r'^    (c\+\+ .*)$', file.read(), re.M).group(1)
        environment = dict(os.environ, PKG_CONFIG_PATH=os.path.join(self.lib, 'pkgconfig'))
        run('/bin/sh', '-c', command, env=environment, cwd=self.dir)
        return os.path.join(self.dir, 'a.out')


def check_example(cluster, installed, program):
    """The example stores, reads, deletes; the file stays readable for who asks for deleted ones."""
    image = os.path.join(cluster.dir, 'image.png')
    body = b'\x89PNG\r\n\x1a\n' + os.urandom(20_000)
    with open(image, 'wb') as file:
        file.write(body)
    environment = dict(os.environ, LD_LIBRARY_PATH=installed.lib)
    nameserver = cluster.process('nameserver-1')['address']
    nodes = [each['address'] for each in cluster.processes('directory')]  # of one shard
    done = run(program, nameserver, f'{cluster.dir}/secret', image,
               *([','.join(nodes)] if nodes else []), env=environment)
    image_id, content_type, size = done.stdout.split()
    check_equal((content_type, int(size)), ('image/png', len(body)), 'what was stored')
    check_equal(done.stderr, '', 'a library that works is silent')
    check_equal(cluster.request('GET', '/' + image_id)[0], 410, 'the gateway sees the delete')
    wait_until(lambda: cluster.hayloft('get', image_id, '--deleted', text=False).stdout == body,
               'the bytes by the command')
    missing = run(program, nameserver, '/nowhere', image, env=environment, wanted=1)
    check(missing.stderr.startswith('config'), missing.stderr)


def check_stranger(cluster, installed, program, *words):
    """All kinds of calls, and ten thousand of them at once on one thread; or what `words` say."""
    environment = dict(os.environ, LD_LIBRARY_PATH=installed.lib)
    nameserver = cluster.process('nameserver-1')['address']
    done = run(program, nameserver, f'{cluster.dir}/secret', *words, env=environment)
    check_equal((done.stdout, done.stderr), ('fine\n', ''), 'the stranger says')


def check_reads_while_a_replica_hangs(installed, program):
    """Three copies on three machines; a dsp is stopped, and every read is answered in a second."""
    with Cluster(dataservers=3, disks=1, copies=3, directory_shards=0) as cluster:
        cluster.up()
        for name in ('dsp-1-1', 'dsp-2-1', 'dsp-3-1'):
            check_stranger(cluster, installed, program, str(cluster.process(name)['pid']))


def check_links(lib):
    """libhayloft.so -> libhayloft.so.0 -> the file of the version, as linkers and loaders want."""
    soname = os.readlink(os.path.join(lib, 'libhayloft.so'))
    check_equal(soname, 'libhayloft.so.0', 'the link for linkers')
    check(os.path.isfile(os.path.join(lib, os.readlink(os.path.join(lib, soname)))), 'the library')
    shown = run('readelf', '-d', os.path.join(lib, soname)).stdout
    check(f'soname: [{soname}]' in shown, shown)


def test_example_against_installed_files():
    """By pkg-config, shared and static, and by CMake; nothing but public names is exported."""
    with Installed() as installed, Cluster(disks=1) as whole, \
            Cluster(disks=1, directory_shards=0) as cluster:
        whole.up()
        cluster.up()
        check_links(installed.lib)
        documented = installed.build_as_documented()
        for each in (whole, cluster):
            check_example(each, installed, documented)
        shared = installed.compile('shared', installed.flags('--cflags', '--libs'))
        check_example(cluster, installed, shared)
        stranger = installed.compile('stranger', installed.flags('--cflags', '--libs') +
                                     ['-pthread'], 'sdk_stranger.cc')
        check_stranger(cluster, installed, stranger)
        check_reads_while_a_replica_hangs(installed, stranger)
        needed = run('readelf', '-d', shared).stdout
        check('[libhayloft.so.0]' in needed, 'the soname is what programs ask for')
        static = installed.compile('static', [f'-I{installed.prefix}/include',
                                              os.path.join(installed.lib, 'libhayloft.a'),
                                              *(flag for flag in installed.flags('--static',
                                                                                 '--libs-only-l')
                                                if flag != '-lhayloft')])
        check('libhayloft' not in run('readelf', '-d', static).stdout, 'it is static')
        check_example(cluster, installed, static)
        exported = run('nm', '-DC', '--defined-only',
                       os.path.join(installed.lib, 'libhayloft.so')).stdout.splitlines()
        names = [line.split(' ', 2)[2] for line in exported]
        check(names and all(name.startswith(PUBLIC) for name in names),
              lambda: f'exported: {[n for n in names if not n.startswith(PUBLIC)]}')
        with open(os.path.join(installed.dir, 'CMakeLists.txt'), 'w', encoding='utf-8') as file:
            file.write(CMAKE)
        build = os.path.join(installed.dir, 'build')
        run('cmake', '-S', installed.dir, '-B', build, f'-DCMAKE_PREFIX_PATH={installed.prefix}')
        run('cmake', '--build', build)
        for kind in ('hayloft', 'hayloft_static'):
            check_example(cluster, installed, os.path.join(build, 'with_' + kind))


def test_documented_example_is_the_example():
    """docs/sdk.md shows the program that is compiled here, and it has no more than 30 lines."""
    with open(DOCS, encoding='utf-8') as file:
        shown = re.search(r'```cpp\n(.*?)```', file.read(), re.S).group(1)
    with open(EXAMPLE, encoding='utf-8') as file:
        example = file.read()
    check_equal(shown, example, 'the example in docs/sdk.md')
    check(example.count('\n') <= 30, 'its length')


def test_documented_codes_are_all_codes():
    """The table of errors in docs/sdk.md names each code once, and MayRetry is as it says."""
    with open(os.path.join(TOP, 'client', 'include', 'hayloft', 'status.h'),
              encoding='utf-8') as file:
        codes = re.findall(r'^  (k\w+) = \d+,', file.read(), re.M)
    with open(DOCS, encoding='utf-8') as file:
        shown = re.findall(r'`(k\w+)`', ''.join(re.findall(r'^\| `k.*?\|', file.read(), re.M)))
    check_equal(sorted(shown + ['kOk']), sorted(codes), 'the codes in docs/sdk.md')


def test_public_headers_stand_alone():
    """Each compiles by itself, as C++17 and C++20, with nothing of ours or of libraries in it."""
    folder = os.path.join(TOP, 'client', 'include')
    for name in sorted(os.listdir(os.path.join(folder, 'hayloft'))):
        for standard in ('17', '20'):
            source = f'#include <hayloft/{name}>\n'
            done = subprocess.run(['g++', f'-std=c++{standard}', '-Wall', '-Wextra', '-pedantic',
                                   '-Werror', '-fsyntax-only', '-H', f'-I{folder}', '-xc++', '-'],
                                  input=source, capture_output=True, text=True, check=False)
            check_equal(done.returncode, 0, done.stderr[-500:])
            for word in ('event2', 'google/protobuf', '/common/', 'zstd'):
                check(word not in done.stderr, f'{name} includes {word}')


if __name__ == '__main__':
    main([test_documented_example_is_the_example, test_documented_codes_are_all_codes,
          test_public_headers_stand_alone, test_example_against_installed_files])

#!/usr/bin/env python3
"""The rules of this code that a program can check; `make lint` runs it.

Prints one line per finding, `file:line: what`, and exits 1 if there is any. No rule has an
exception in the text of a file: what may differ stands in the lists below, seen by reviewers.

    lint.py [FOLDER]    the project that FOLDER is the top of; default: this file's
"""

import ast
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

# Folders with product code. What lies in them is a core, which may not reach for the outside world,
# unless it is in common/io/, is a *_main.cc, or stands in SHELLS.
PRODUCT = ('common', 'nameserver', 'dataserver', 'directory', 'cache', 'client', 'gateway')
SHELLS = re.compile(r'^(common/io/.*|client/cli/.*|client/async_client\.(h|cc)|.*_main\.cc'
                    r'|common/ha/(lease_file|etcd_\w+)\.(h|cc)|.*_shell(_[a-z0-9]+)*\.(h|cc))$')

# Who may include whom: a folder includes itself and these. Roles meet on the wire only.
INCLUDES = {
    'common': (),
    'common/io': ('common',),
    'common/ha': ('common',),
    'nameserver': ('common', 'common/ha'),
    'dataserver': ('common',),
    'dataserver/dsp': ('common',),
    'directory': ('common', 'common/ha', 'client'),  # the client reaches the dsps for it
    'cache': ('common', 'client'),  # what is not kept is read by the client
    'client': ('common',),
    'client/cli': ('common', 'client'),
    'gateway': ('common', 'cache', 'client'),
}
# A core's angle-bracket includes: the standard library without its doors to the outside, and
# pure calls of libraries and of the processor, in one file each.
CLOSED_DOORS = {'chrono', 'thread', 'mutex', 'shared_mutex', 'condition_variable', 'future',
                'random', 'fstream', 'filesystem', 'ctime', 'csignal', 'semaphore', 'latch',
                'barrier', 'stop_token'}
PURE_LIBRARIES = {'common/codec.cc': re.compile(r'^(openssl/|zstd|isa-l)'),
                  'common/sha_pair.cc': re.compile(r'^(cpuid|immintrin)\.h')}
OUTSIDE_CALLS = re.compile(r'(?<![\w.>])(std::)?(rand\(\)|srand\(|getenv\(|system\(|time\(nullptr)')

# Each costs 3 to 30 seconds a file that includes it.
HEAVY = {'spdlog': r'#include [<"]spdlog/', 'CLI11': r'#include [<"]CLI/',
         'nlohmann-json': r'#include [<"]nlohmann/', 'rapidcheck': r'#include [<"]rapidcheck',
         'the main of doctest': r'#define DOCTEST_CONFIG_IMPLEMENT'}

COLUMNS_MAX, FUNCTION_LINES_MAX, FILE_LINES_MAX = 100, 70, 800

findings = []


def found(path, line, what):
    findings.append(f'{path}:{line}: {what}')


def tracked_files():
    """Files that git knows or would add: not what .gitignore names."""
    out = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], check=True,
                         capture_output=True, text=True).stdout
    return [path for path in out.splitlines() if os.path.isfile(path)]


def folder_of(path):
    """The most special folder of INCLUDES that holds the file; None outside of the product."""
    folders = [f for f in INCLUDES if path.startswith(f + '/')]
    return max(folders, key=len) if folders else None


def without_comments(text):
    """C++ with comments, strings and macro definitions blanked; lines keep their number."""
    def blank(match):
        token = match.group(0)
        if token[0] in '"\'R':
            return '""' + '\n' * token.count('\n')
        return re.sub(r'[^\n]', ' ', token)
    token = (r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^(\s]*)\(.*?\)(?P=d)"|"(?:\\.|[^"\\\n])*"'
             r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'")
    text = re.sub(token, blank, text, flags=re.S)
    return re.sub(r'^[ \t]*#[ \t]*(define|undef|include)\b(?:[^\n]*\\\n)*[^\n]*', blank, text,
                  flags=re.M)


def cpp_functions(text):
    """(first line, last line) of each function body outside of other functions.

    A brace that opens where only namespaces and types are open, behind a declarator with
    parentheses, opens a function. A brace without a space before it initialises (clang-format).
    """
    stack, start, pending, line = [], 1, '', 1
    for i, char in enumerate(text):
        if char == '\n':
            line += 1
        if not pending.strip():
            start = line
        if char == '{':
            inside = 'function' in stack or 'value' in stack
            kind = 'value' if not text[i - 1].isspace() or re.search(r'=\s*$', pending) else 'scope'
            scope_word = re.match(r'\s*(template\s*<[^{]*>\s*)?(inline )?'
                                  r'(namespace|class|struct|union|enum|extern)\b', pending)
            if not inside and kind == 'scope' and '(' in pending and not scope_word:
                kind = 'function'
            stack.append(kind)
            if kind == 'function':
                yield_start = start
            if kind != 'value':
                pending = ''
        elif char == '}' and stack:
            kind = stack.pop()
            if kind == 'function':
                yield yield_start, line
            if kind != 'value':
                pending = ''
        elif char == ';' and 'value' not in stack:
            pending = ''
        else:
            pending += char


def check_sizes(path, text):
    lines = text.splitlines()
    if len(lines) > FILE_LINES_MAX:
        found(path, len(lines), f'{len(lines)} lines; a file has at most {FILE_LINES_MAX}')
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX:
            found(path, number, f'{len(line)} columns; a line has at most {COLUMNS_MAX}')
        if re.search(r'\b(TODO|FIXME|XXX)\b', line) and 'tests/lint/' not in path:
            found(path, number, 'an intention is an issue, not a comment')
    if path.endswith('.py'):
        functions = [(node.lineno, node.end_lineno) for node in ast.walk(ast.parse(text, path))
                     if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    else:
        functions = cpp_functions(without_comments(text))
    for first, last in functions:
        if last - first + 1 > FUNCTION_LINES_MAX:
            found(path, first, f'{last - first + 1} lines; a function has at most '
                               f'{FUNCTION_LINES_MAX}')


def check_include(path, number, bracket, header):
    folder, shell = folder_of(path), bool(SHELLS.match(path))
    if header.endswith('.cc'):
        found(path, number, f'includes the source file {header}')
    if header.endswith('_format.h') and folder not in (None, folder_of(header)):
        found(path, number, f'{header} is for its own folder and tests')
    if folder is None:
        return
    if bracket == '"':
        if '/' not in header:
            found(path, number, f'includes {header} without its folder')
        target = folder_of(header)
        allowed = (folder,) + INCLUDES[folder] + (('common/io',) if shell else ())
        if target is not None and target not in allowed:
            found(path, number, f'{folder} may not include {header}')
    elif not shell:
        pure = PURE_LIBRARIES.get(path)
        if (pure is None or not pure.match(header)) and (
                '/' in header or header.endswith('.h') or header in CLOSED_DOORS):
            found(path, number, f'a core may not include <{header}>')


def check_cpp(path, text):
    core = folder_of(path) is not None and not SHELLS.match(path)
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line)
        if match:
            check_include(path, number, match.group(1), match.group(2))
        if core and re.match(r'\s*#\s*if', line):
            found(path, number, 'a core has no conditional code')
    code = without_comments(text).splitlines()
    for number, line in enumerate(code, 1):
        if core and OUTSIDE_CALLS.search(line):
            found(path, number, 'a core gets time, randomness and settings as arguments')
        if 'using namespace' in line and not path.startswith('tests/'):
            found(path, number, 'using namespace')
    if path.endswith('.h') and '#pragma once' not in text:
        found(path, 1, 'a header without #pragma once')


def check_once(sources):
    """What must stand in one place of the project only."""
    for name, pattern in HEAVY.items():
        users = [p for p, text in sources.items() if re.search(pattern, text)]
        for path in users[1:]:
            found(path, 1, f'{name} is included by {users[0]} already; its headers are slow')
        for path in (p for p in users if p.endswith('.h')):
            found(path, 1, f'{name} belongs into a .cc')
    probes = {}
    for path, text in sources.items():
        for match in re.finditer(r'\bPROBE\("([^"]+)"\)', text):
            line = text.count('\n', 0, match.start()) + 1
            if text[text.rfind('\n', 0, match.start()) + 1:match.start()].lstrip().startswith('//'):
                continue
            if match.group(1) in probes:
                found(path, line, f'probe "{match.group(1)}" is at {probes[match.group(1)]} too')
            probes[match.group(1)] = f'{path}:{line}'


def check_format(paths):
    def run(path):
        done = subprocess.run(['clang-format-14', '--dry-run', '-Werror', path],
                              capture_output=True, text=True)
        if done.returncode != 0:
            first = re.search(r':(\d+):', done.stderr)
            found(path, first.group(1) if first else 1, 'not as clang-format-14 writes it')
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, paths))


def main():
    own_project = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else own_project)
    sources = {}
    for path in tracked_files():
        if path.endswith(('.cc', '.h', '.py')):
            with open(path, encoding='utf-8') as file:
                sources[path] = file.read()
            check_sizes(path, sources[path])
    cpp = {path: text for path, text in sources.items() if not path.endswith('.py')}
    for path, text in cpp.items():
        check_cpp(path, text)
    check_once(cpp)
    check_format(sorted(cpp))
    for finding in sorted(findings):
        print(finding)
    print(f'lint: {len(sources)} files, {len(findings)} findings')
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main())

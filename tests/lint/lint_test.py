#!/usr/bin/env python3
"""lint: each rule finds what it is for, and nothing in code that keeps the rules."""

import os
import subprocess
import sys
import tempfile

LINT = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lint.py')

LONG_BODY = '  ++x;\n' * 70
CLEAN = {
    'common/a.h': '#pragma once\n#include <string>\n',
    'common/io/loop.cc': '#include <sys/types.h>\n#ifdef __linux__\n#endif\n',
    'nameserver/b.cc': '#include "common/a.h"\n'
                       'namespace hayloft {\n'
                       'int x{1};\n'
                       'struct S {\n  S() : y_{1} {}\n  int y_;\n};\n'
                       'const char* kText = "{ // no block";\n'
                       '}  // namespace hayloft\n',
    'common/ha/lease_file.cc': '#include "common/io/loop.h"\n#include <thread>\n',
    'client/async_client.cc': '#include "common/io/loop.h"\n#include <thread>\n',
}
# file, text, words of the finding
DIRTY = [
    ('common/x.cc', '#include <sys/stat.h>\n', 'a core may not include'),
    ('common/x.cc', '#include <chrono>\n', 'a core may not include'),
    ('common/x.cc', '#include <openssl/evp.h>\n', 'a core may not include'),
    ('common/x.cc', '#include "nameserver/b.h"\n', 'may not include'),
    ('gateway/x.cc', '#include "common/io/loop.h"\n', 'may not include'),
    ('gateway/x.cc', '#include "common/ha/log_tail.h"\n', 'may not include'),
    ('common/ha/log_tail.cc', '#include "common/io/loop.h"\n', 'may not include'),
    ('dataserver/x.cc', '#include "dataserver/dsp/dsp_core.h"\n', 'may not include'),
    ('gateway/x.cc', '#include "dataserver/dsp/block_format.h"\n', 'for its own folder'),
    ('tests/unit/x.cc', '#include "gateway/gateway_main.cc"\n', 'source file'),
    ('common/x.cc', '#ifdef TEST\n#endif\n', 'conditional'),
    ('common/x.cc', 'int x = std::getenv("X") != nullptr;\n', 'as arguments'),
    ('common/x.cc', 'using namespace std;\n', 'using namespace'),
    ('common/x.h', 'int x();\n', 'pragma once'),
    ('common/x.cc', '// ' + 'x' * 100 + '\n', '103 columns'),
    ('common/x.cc', '\n' * 801, '801 lines'),
    ('common/x.cc', 'void F(int x) {\n' + LONG_BODY + '}\n', '72 lines; a function'),
    ('tests/x.py', 'def f(x):\n' + '    x += 1\n' * 70, '71 lines; a function'),
    ('common/x.cc', 'int  x;\n', 'clang-format'),
    ('common/x.cc', '// TODO: later\n', 'an intention'),
    ('common/io/x.cc', '#include <nlohmann/json.hpp>\n', 'slow'),
    ('common/io/y.h', '#pragma once\n#include <spdlog/spdlog.h>\n', 'belongs into a .cc'),
    ('common/x.cc', 'void F() { PROBE("twice"); }\n', 'probe "twice"'),
]
ALWAYS = {'common/io/json.cc': '#include <nlohmann/json.hpp>\n',
          'nameserver/p.cc': 'void G() { PROBE("twice"); }\n'}


def lint(files):
    with tempfile.TemporaryDirectory() as top:
        subprocess.run(['git', 'init', '-q', top], check=True)
        for path, text in files.items():
            os.makedirs(os.path.join(top, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(top, path), 'w', encoding='utf-8') as file:
                file.write(text)
        with open(os.path.join(top, '.clang-format'), 'w', encoding='utf-8') as file:
            file.write('BasedOnStyle: Google\nColumnLimit: 0\nSortIncludes: false\n')
        done = subprocess.run([sys.executable, LINT, top], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def main():
    failed = 0
    code, output = lint(CLEAN | ALWAYS)
    if code != 0:
        failed += 1
        print('lint: code that keeps the rules is not clean:', output, sep='\n')
    for path, text, words in DIRTY:
        code, output = lint(CLEAN | ALWAYS | {path: text})
        if code != 1 or words not in output:
            failed += 1
            print(f'lint: "{words}" was not found in {path}:\n{text[:200]}\n{output}')
    print(f'{len(DIRTY) + 1 - failed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
"""The mean of two adapters of one training, before and after it was continued: of the two steps' noise half is gone.

usage: average.py BEFORE_DIR AFTER_DIR OUT_DIR

Both must be of the same form and shapes; config.json is that of AFTER_DIR.
"""
import os
import shutil
import sys

from safetensors.torch import load_file, save_file


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    before, after, out = sys.argv[1:]
    for name in (os.path.join(d, f) for d in (before, after) for f in ('adapter.safetensors', 'config.json')):
        if not os.path.isfile(name):
            sys.exit('%s is not there: BEFORE_DIR and AFTER_DIR are folders that train.py wrote' % name)
    a, b = (load_file(os.path.join(d, 'adapter.safetensors')) for d in (before, after))
    if {n: t.shape for n, t in a.items()} != {n: t.shape for n, t in b.items()}:
        sys.exit('%s and %s are not adapters of the same form and shapes' % (before, after))
    os.makedirs(out, exist_ok=True)
    save_file({n: ((a[n].float() + b[n].float()) / 2).to(b[n].dtype).contiguous() for n in b}, os.path.join(out, 'adapter.safetensors'))
    shutil.copyfile(os.path.join(after, 'config.json'), os.path.join(out, 'config.json'))


if __name__ == '__main__':
    main()

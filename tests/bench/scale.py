#!/usr/bin/env python3
"""What size costs: scale.py SHARDLENS HOLLOW FOLDER [MODEL ...].

For models of 1B to 671B parameters as sparse files (hollow_hf.py, hollow.c), in the layouts that such models are trained
in: time, peak memory of inspect, of a plan with its full proof, of check by headers, and the time to the first screen
of the terminal UI and of a page down in its list of tensors. Prints one table; medians of RUNS (3). Times are of this machine; nothing is asserted.
"""
import os
import pty
import resource
import select
import shutil
import statistics
import struct
import subprocess
import sys
import termios
import time
import fcntl

HERE = os.path.dirname(os.path.abspath(__file__))
LENS, HOLLOW, FOLDER = (os.path.abspath(a) for a in sys.argv[1:4])
RUNS = int(os.environ.get("RUNS", "3"))
LLAMA_STAGES = "7" + ",8" * 14 + ",7"          # 126 layers in 16 stages, as Llama 3.1 was trained: first and last have one less
DEEPSEEK_STAGES = "3,4,4,4,4,4,4,4,4,4,4,4,4,4,4,2"
CASES = [  # model, title, arguments of hollow
    ("1b", "Llama 1B TP1", ["megatron", "1", "1"]),
    ("8b", "Llama 8B TP4 PP2", ["megatron", "4", "2"]),
    ("70b", "Llama 70B TP8 PP4", ["megatron", "8", "4"]),
    ("405b", "Llama 405B TP8 PP16", ["megatron", "8", LLAMA_STAGES]),
    ("671b", "DeepSeek-V3 671B TP8 PP16 EP8", ["megatron", "8", DEEPSEEK_STAGES, "8", "1"]),
    ("671b", "DeepSeek-V3 671B torch_dist, 512 files", ["torch_dist", "1", "1", "1", "1", "512"]),
]


def measured(*command):
    """Seconds of wall and processor, peak bytes, medians."""
    walls, cpus, peaks = [], [], []
    for _ in range(RUNS):
        begin = time.monotonic()
        with open(os.devnull, "w") as null:
            child = subprocess.Popen([LENS, *command], stdout=null, stderr=null)
            _, status, used = os.wait4(child.pid, 0)
        walls.append(time.monotonic() - begin)
        if os.waitstatus_to_exitcode(status) not in (0, 1):
            sys.exit(f"scale: {' '.join(command)}: exit {os.waitstatus_to_exitcode(status)}")
        cpus.append(used.ru_utime + used.ru_stime)
        peaks.append(used.ru_maxrss * 1024)
    return statistics.median(walls), statistics.median(cpus), max(peaks)


def read_until_quiet(fd, quiet):
    """Bytes until nothing came for `quiet` seconds, and when the last of them came."""
    data, last = b"", time.monotonic()
    while select.select([fd], [], [], quiet)[0]:
        try:
            got = os.read(fd, 65536)
        except OSError:
            break
        if not got:
            break
        data += got
        last = time.monotonic()
    return data, last


def screens(path):
    """Milliseconds to a first screen that names the model, and to the screen after a page down among the tensors."""
    first, page = [], []
    for _ in range(RUNS):
        begin = time.monotonic()
        pid, fd = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(LENS, [LENS, path])
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        data = b""
        while b"quit" not in data:      # the keys in the last line: the screen is drawn
            if not select.select([fd], [], [], 30)[0]:
                sys.exit(f"scale: no screen on {path}")
            data += os.read(fd, 65536)
        first.append(time.monotonic() - begin)
        read_until_quiet(fd, 3)         # the headers are read in the background
        os.write(fd, b"2")
        read_until_quiet(fd, 1)
        begin = time.monotonic()
        os.write(fd, b"\x1b[6~")
        if select.select([fd], [], [], 5)[0]:
            _, last = read_until_quiet(fd, 0.2)
            page.append(last - begin)
        os.write(fd, b"qqqy")
        read_until_quiet(fd, 0.2)
        os.close(fd)
        os.waitpid(pid, 0)
    return statistics.median(first) * 1000, statistics.median(page) * 1000 if page else float("nan")


def source(model):
    hf = f"{FOLDER}/hf-{model}"
    if not os.path.exists(hf):
        subprocess.run([sys.executable, f"{HERE}/hollow_hf.py", model, hf], check=True)
    return hf


def main():
    wanted = sys.argv[4:]
    os.makedirs(FOLDER, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    print(f"{'checkpoint':40} {'size':>8} {'files':>5} {'tensors':>8}  {'inspect':>17}  {'check':>17}  {'plan and proof':>17}  {'screen':>7} {'page':>6}")
    for model, title, arguments in CASES:
        if wanted and model not in wanted:
            continue
        target = f"{FOLDER}/{model}-{arguments[0]}"
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run([HOLLOW, source(model), target, *arguments], check=True)
        paths = [os.path.join(d, f) for d, _, files in os.walk(target) for f in files]
        listed = subprocess.run([LENS, "ls", target], stdout=subprocess.PIPE, check=True).stdout.count(b"\n") - 1
        cells = [f"{wall:6.2f} s {peak / 1e6:5.0f} MB" for wall, _, peak in
                 (measured("inspect", target), measured("check", target), measured("plan", target, "--to", "hf"))]
        screen, page = screens(target)
        print(f"{title:40} {sum(map(os.path.getsize, paths)) / 1e9:6.0f}GB {len(paths):5} {listed:8}  "
              + "  ".join(f"{c:>17}" for c in cells) + f"  {screen:4.0f} ms {page:3.0f} ms", flush=True)
        shutil.rmtree(target)
    shutil.rmtree(FOLDER)


main()

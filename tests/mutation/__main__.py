"""Plant one error at a time in a copy of course_lib and ask the tests: see the README here.

``python tests/mutation FOLDER`` draws the errors by their seed, runs each against the tests and
writes what came of it to FOLDER. It only reads the working tree.
"""

import argparse
import builtins
import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from mutants import PACKAGE, SOURCES, probed, sample

ROOT = PACKAGE.parent
# Modules whose tests have another's name.
TESTED_BY = {
    "cross_products": "deviance",
    "scaling": "search",
    "prediction": "result",
    "summary": "result",
}
# Loaded once, pytest's plugins too; each run of the tests is a fork of this process.
WARM = "pytest pandas scipy.stats scipy.optimize scipy.sparse.linalg formulaic statsmodels.api "
WARM += "linearmodels sklearn.ensemble shap matplotlib.pyplot seaborn hypothesis "
WARM += "_hypothesis_pytestplugin nbval.plugin xdist.plugin anyio.pytest_plugin jsonschema"
LOADED = "ignore::pytest.PytestAssertRewriteWarning"
PYTEST = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow", "--tb=no", "-rfE"]
PYTEST += ["-W", LOADED]


class Probes:
    """A plugin of pytest: which statements each test reaches.

    What collecting a file and setting up its tests reaches belongs to all of them.
    """

    def __init__(self):
        self.hits = builtins.__dict__.setdefault("_hits", set())
        self.shared, self.tests, self.began = set(), {}, 0.0

    def pytest_runtest_call(self, item):
        """Before a test."""
        self.shared |= self.hits
        self.hits.clear()
        self.began = time.monotonic()

    def pytest_runtest_teardown(self, item):
        """After a test."""
        self.tests[item.nodeid] = time.monotonic() - self.began, sorted(self.hits)
        self.hits.clear()

    def found(self):
        """Return what was found, for a JSON file."""
        return {"shared": sorted(self.shared | self.hits), "tests": self.tests}


class Only:
    """A plugin of pytest: only these tests, short ones first."""

    def __init__(self, seconds):
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items):
        """Keep them."""
        kept = [item for item in items if item.nodeid in self.seconds]
        items[:] = sorted(kept, key=lambda item: self.seconds[item.nodeid])


class Tree:
    """A copy of the repository in which tests run, each time in a fork of this process."""

    def __init__(self, folder):
        self.root = Path(folder) / "tree"
        skip = shutil.ignore_patterns(
            ".git", "__pycache__", ".hypothesis", "*.ipynb_checkpoints"
        )
        shutil.copytree(ROOT, self.root, ignore=skip)
        self.clock = 0

    def write(self, path, source):
        """Write a module of the copy; each time is new, so that no old bytecode is taken."""
        self.clock += 10
        file = self.root / "course_lib" / path
        file.write_text(source, encoding="utf-8")
        os.utime(file, (self.clock, self.clock))

    def test(self, files, seconds, plugin, found=None):
        """Run pytest on files; return its exit code (or "timeout") and its last line.

        What the plugin found is written to the file `found`.
        """
        said = self.root / "said.txt"
        child = os.fork()
        if child == 0:
            self.in_fork(said, files, plugin, found)
        end, done = time.monotonic() + seconds, 0
        while not done and time.monotonic() < end:
            time.sleep(0.02)
            done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout", ""
        lines = said.read_text(errors="replace").splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        return os.waitstatus_to_exitcode(status), "".join(failed[-1:] or lines[-1:])

    def in_fork(self, said, files, plugin, found):
        """Run pytest in this process, and end it."""
        code = 3
        try:
            os.setpgid(0, 0)
            os.chdir(self.root)
            os.environ["PYTHONPATH"] = str(self.root)
            sys.path[:] = [str(self.root), *(p for p in sys.path if p not in ("", str(ROOT)))]
            out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            main = importlib.import_module("pytest").main
            code = int(main([*PYTEST, *files], [plugin]))
            if found is not None:
                found.write_text(json.dumps(plugin.found()))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def test_files():
    """Return the names of all test files."""
    return sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("tests/**/test_*.py"))


def own_tests(path):
    """Return the test files that belong to a module: of its name, in its folder."""
    module = Path(path)
    name = TESTED_BY.get(module.stem, module.stem)
    return [f for f in test_files() if Path(f).match(f"tests/{module.parent}/test_{name}*.py")]


def shared(jobs, todo, work):
    """Let forks of this process do their share of a list, each in a tree of its own."""

    def one(k):
        with tempfile.TemporaryDirectory() as folder:
            tree = Tree(folder)
            for item in todo[k::jobs]:
                work(tree, item)

    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=one, args=(k,)) for k in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        sys.exit("a worker has failed")


def reached_by(folder, jobs):
    """Return for each test its seconds and the statements of course_lib that it reaches.

    All must pass as they are. What is known of a file holds until it or the library changes.
    """
    library = b"".join(p.read_bytes() for p in sorted(PACKAGE.rglob("*.py")))
    files = {}
    for name in test_files():
        digest = hashlib.sha256(library + (ROOT / name).read_bytes()).hexdigest()
        files[name] = folder / f"{digest[:16]}.json"

    def work(tree, name):
        for path in SOURCES:
            tree.write(path, probed(path))
        code, said = tree.test([name], 900, Probes(), files[name])
        if code not in (0, 5):  # 5: no test of the quick tier
            files[name].unlink(missing_ok=True)
            sys.exit(f"{name} fails without an error planted: {said}")

    shared(jobs, [name for name, file in files.items() if not file.exists()], work)
    reached = {}
    for file in files.values():
        found = json.loads(file.read_text())
        for test, (seconds, places) in found["tests"].items():
            reached[test] = seconds, {tuple(p) for p in found["shared"] + places}
    return reached


def judge(tree, mutant, reached, stage):
    """Run the tests that reach a mutant: those of its module (stage 0), or the others (1)."""
    own, place = set(own_tests(mutant.path)), (mutant.path, mutant.line)
    seconds = {
        test: took
        for test, (took, places) in reached.items()
        if place in places and (test.split("::")[0] in own) == (stage == 0)
    }
    files = sorted({test.split("::")[0] for test in seconds})
    began, code, by = time.monotonic(), 0, ""
    if files:
        tree.write(mutant.path, mutant.source())
        code, by = tree.test(files, 60 + 6 * sum(seconds.values()), Only(seconds))
        tree.write(mutant.path, SOURCES[mutant.path].decode())
    passed = "survived" if stage else "open"
    outcome = {0: passed, 5: passed, "timeout": "timeout"}.get(code, "caught")
    return {"outcome": outcome, "by": by, "seconds": round(time.monotonic() - began, 1)}


def report(results):
    """Print a table of the modules and the survivors."""
    print(f"{'module':40}{'caught':>8}{'survived':>10}")
    for path in [*sorted({r["path"] for r in results}), ""]:
        of_it = [r["outcome"] != "survived" for r in results if path in (r["path"], "")]
        print(f"{path or 'all':40}{sum(of_it):8}{len(of_it) - sum(of_it):10}")
    for r in results:
        if r["outcome"] == "survived":
            print(f"\n{r['path']}:{r['line']} ({r['kind']})\n{r['diff']}")


def warm_up():
    """Load what each fork would otherwise load again."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy is imported
    for name in WARM.split():
        importlib.import_module(name)


def main():
    """Draw the mutants, run those without a result, and print what came of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where results are kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="run the survivors once more")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    log = options.folder / f"seed_{options.seed}.jsonl"
    drawn = {repr(m): m for m in sample(options.seed, options.number)}

    def results():
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return {r["key"]: r for r in map(json.loads, lines)}

    warm_up()
    reached = reached_by(options.folder, options.jobs)
    for stage, outcomes in enumerate((("new", "again"), ("open",))):

        def work(tree, mutant, stage=stage):
            found = asdict(mutant) | {"key": repr(mutant), "diff": mutant.diff()}
            found |= judge(tree, mutant, reached, stage)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(found["outcome"], f"{mutant.path}:{mutant.line}", found["by"], flush=True)

        known = {key: r["outcome"] for key, r in results().items()}
        if options.again and stage == 0:
            known = {key: "again" if o == "survived" else o for key, o in known.items()}
        todo = [m for key, m in drawn.items() if known.get(key, "new") in outcomes]
        shared(options.jobs, todo, work)
    report([results()[key] for key in drawn])


if __name__ == "__main__":
    main()

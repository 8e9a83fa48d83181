"""Fuzzing of everything that reads what strangers wrote.

targets.py     what is fuzzed, and what must hold of each input
layers.py      the targets of layers and squashfs files
mutations.py   changes of bytes and JSON
tars.py        changes of tar archives that pass their checksums
squash.py      changes of squashfs files
guard.py       the time and memory that one input may take
seeds.py       the inputs to begin with
run.py         long runs, guided by coverage (atheris); `make fuzz`
minimise.py    the smallest inputs that reach all that is reached: the kept corpus
corpus/        kept inputs by target; test_fuzz.py runs them in every test run
"""

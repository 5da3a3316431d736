"""Books: what fits, what is read of them, and whether runs at once can spend more than the total."""

from __future__ import annotations

import json
import multiprocessing
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from pe_beam.books import entering
from pe_beam.books.entering import Applicant, enter, find_entry, give_back
from pe_beam.books.file import KEY, create_book, has_data, read_book
from pe_beam.books.lines import BOOK, Cost, Place, exact_sum
from pe_beam.books.total import room_beside
from pe_beam.cli.main import main
from pe_beam.errors import InputError, PeBeamError, RecipeError
from pe_beam.privacy.accounting import calibrate, numeric_epsilon, spent_epsilon
from pe_beam.privacy.subsampled import peer_epsilon
from pe_beam.storage import open_store

RUN = "ab" * 32
DATA = "cd" * 32


def cost(*multipliers: float, rate: float = 1.0, windows: int = 1, bought: float | None = None) -> Cost:
    return Cost(
        noise_multiplier=list(multipliers),
        label_shares_noise_multiplier=bought,
        sampling_rate=rate,
        windows=windows,
    )


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64])
def test_sums_of_squares_are_exact(count: int) -> None:
    terms = [(-1) ** i / Fraction(50 + i / 7) ** 2 for i in range(count)]
    assert exact_sum(terms) == sum(terms, Fraction(0))


def applicant(place: str, spends: Cost, **changes: object) -> Applicant:
    told = {
        "place": place,
        "run_id": RUN,
        "name": "run",
        "unit": "record",
        "adjacency": "add-or-remove-one",
        "cost": spends,
        "starts_from": {},
    }
    return Applicant(**(told | changes))


def key_of(directory: str) -> bytes:
    return directory.encode().rjust(32, b"k")[-32:]


def goes_in(place: str, directory: str, spends: Cost, fingerprint: str = DATA, **changes: object) -> list[str]:
    who = applicant(place, spends, **changes)
    return enter(open_store(directory), who, key_of(directory), fingerprint, spent=False, look=True)


def opened(name: str, epsilon: float = 1, delta: float = 1e-5, **more: object) -> str:
    place = f"memory://book-{name}"
    create_book(place, name=name, epsilon=epsilon, delta=delta, **more)
    return place


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-8), (1, 1e-5), (8, 1e-6)])
@pytest.mark.parametrize("rounds", [1, 3, 10])
def test_a_run_of_the_whole_total_fits_exactly(epsilon, delta, rounds):
    """Exact sums: no tolerance is needed, and one millionth more is refused. A run's own delta says nothing."""
    plan = calibrate(epsilon=epsilon, delta=delta, weights=[1.0] * rounds, sensitivity=1.0)
    book = read_book(open_store(opened(f"whole-{epsilon}-{rounds}", epsilon, delta)))
    assert cost(*plan.noise_multipliers).squared() <= book.total
    assert book.demand_room(RUN, cost(*plan.noise_multipliers)) is None
    with pytest.raises(InputError, match="Nothing is spent"):
        book.demand_room(RUN, cost(*(z * (1 - 1e-6) for z in plan.noise_multipliers)))
    assert spent_epsilon([book.opened.noise_multiplier], delta) <= epsilon


def test_gaussian_runs_add_up_and_the_refusal_says_what_is_left():
    place = opened("adds-up")
    total = read_book(open_store(place)).total
    goes_in(place, "memory://adds-up-1", cost(8.0, 10.0, bought=20.0))
    goes_in(place, "memory://adds-up-2", cost(6.0))
    book = read_book(open_store(place))
    assert total - book.left == sum(Fraction(1, z * z) for z in (8, 10, 20, 6))
    with pytest.raises(InputError, match=r"mu 0\.1262 is left.*privacy.epsilon 0\.4.*would take mu 0\.25") as refused:
        goes_in(place, "memory://adds-up-3", cost(4.0))
    assert refused.value.exit_status == 2
    assert not open_store("memory://adds-up-3").exists(entering.RECEIPT)
    goes_in(place, "memory://adds-up-4", cost(8.0))
    everything = [8.0, 10.0, 20.0, 6.0, 8.0]
    assert 0.95 < numeric_epsilon(everything, 1e-5) <= 1.0001 and spent_epsilon(everything, 1e-5) <= 1
    assert len(read_book(open_store(place)).entries) == 3


def test_other_kinds_other_books_and_spent_runs_are_refused():
    place = opened("kinds")
    for changes in ({"unit": "client"}, {"adjacency": "replace-one"}):
        with pytest.raises(RecipeError, match="another promise is another book"):
            goes_in(place, "memory://kinds-1", cost(9.0), **changes)
    with pytest.raises(InputError, match="spent outside"):
        enter(open_store("memory://kinds-1"), applicant(place, cost(9.0)), b"k" * 32, DATA, spent=True)
    goes_in(place, "memory://kinds-1", cost(9.0))
    with pytest.raises(InputError, match="another book"):
        goes_in(opened("kinds-too"), "memory://kinds-1", cost(9.0))
    with pytest.raises(InputError, match="another secret, other data"):
        goes_in(place, "memory://kinds-1", cost(9.0), "ef" * 32)
    with pytest.raises(InputError, match="holds a book"):
        opened("kinds")
    for epsilon, delta in ((float("inf"), 1e-5), (1, 1.0)):
        with pytest.raises(InputError, match="an epsilon of"):
            opened("no-total", epsilon, delta)


def test_a_run_on_samples_counts_as_such_only_if_it_was_planned():
    spends = cost(*[1.5] * 4, rate=0.05)
    planned = Place(run_id=RUN, name="run", unit="record", adjacency="add-or-remove-one", cost=spends)
    alone = opened("unplanned", 2.0)
    with pytest.raises(InputError, match="as if all had voted"):
        goes_in(alone, "memory://unplanned-1", spends)
    place = opened("planned", 2.0, planned=[planned])
    goes_in(place, "memory://planned-1", spends)
    book = read_book(open_store(place))
    assert book.left == book.total > 0
    assert book.total < read_book(open_store(alone)).total  # the plan takes its part
    with pytest.raises(InputError, match="as if all had voted"):  # the place is taken
        goes_in(place, "memory://planned-2", spends)
    everything = [*spends.spendings(), *cost(book.opened.noise_multiplier).spendings()]
    assert spent_epsilon(everything, 1e-5) <= 2.0
    assert abs(peer_epsilon(everything, 1e-5) - 2.0) < 0.02  # and hardly less: nothing is given away
    give_back(open_store("memory://planned-1"), [1])  # it has spent in its place, which stays taken
    with pytest.raises(InputError, match="as if all had voted"):
        goes_in(place, "memory://planned-2", spends)
    with pytest.raises(InputError, match="planned runs come to"):
        room_beside(spends.spendings(), epsilon=0.05, delta=1e-5)


def test_what_is_not_written_comes_back_once_and_the_run_is_shut_out():
    place, directory = opened("returns"), "memory://returns-1"
    store = open_store(directory)
    goes_in(place, directory, cost(5.0, 10.0, 10.0))
    for _ in range(2):
        book, entry = give_back(store, [1])
        assert entry.counted() == Fraction(1, 25) == book.total - book.left
    with pytest.raises(InputError, match="never spend more"):
        entering.demand_entered(store)
    with pytest.raises(InputError, match="never spend more"):
        goes_in(place, directory, cost(5.0, 10.0, 10.0))
    store.delete(entering.RECEIPT)  # nor without its receipt
    with pytest.raises(InputError, match="never spend more"):
        goes_in(place, directory, cost(5.0, 10.0, 10.0))


def test_a_kill_at_any_write_of_entering_reserves_once():
    for place_of_kill in range(3):
        place, directory = opened(f"kills-{place_of_kill}"), f"memory://kills-{place_of_kill}"
        left = [place_of_kill]

        def kill(real, left=left):
            def write(*given, **named):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                return real(*given, **named)

            return write

        kind = type(open_store(place))
        with pytest.MonkeyPatch.context() as patch:
            for name in ("commit", "swap"):
                patch.setattr(kind, name, kill(getattr(kind, name)))
            if place_of_kill < 2:
                with pytest.raises(KeyboardInterrupt):
                    goes_in(place, directory, cost(5.0))
        for _ in range(2):
            goes_in(place, directory, cost(5.0))
        book = read_book(open_store(place))
        assert book.total - book.left == Fraction(1, 25)
        assert find_entry(open_store(directory))[1].line.directory == directory


def test_a_secret_enters_from_one_directory_alone():
    """Two directories with one secret may draw noise twice, and would be one entry: the second is refused."""
    place, who = opened("secret"), applicant("memory://book-secret", cost(5.0))
    one, two = open_store("memory://secret-1"), open_store("memory://secret-2")
    enter(one, who, b"k" * 32, DATA, spent=False)
    with pytest.raises(InputError, match=r"entered from memory://secret-1; a secret is for one run directory"):
        enter(two, who, b"k" * 32, DATA, spent=False)
    assert not two.exists(entering.RECEIPT)
    enter(one, who, b"k" * 32, DATA, spent=False)  # a resume
    one.delete(entering.RECEIPT)  # as if the directory was deleted and filled anew
    with pytest.raises(InputError, match="is for one run directory"):
        enter(one, who, b"k" * 32, DATA, spent=False)
    enter(one, who, b"k" * 32, DATA, spent=True)  # its ledger says that it is the run
    assert len(read_book(open_store(place)).entries) == 1


def test_of_two_directories_with_one_secret_at_once_one_enters():
    place, who, inside = opened("twins"), applicant("memory://book-twins", cost(5.0)), []
    real = entering.change_book

    def late(kept, change):
        if not inside:  # between its look at the book and its line another one enters
            inside.append(True)
            enter(open_store("memory://twins-1"), who, b"k" * 32, DATA, spent=False)
        return real(kept, change)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entering, "change_book", late)
        with pytest.raises(InputError, match="is for one run directory"):
            enter(open_store("memory://twins-2"), who, b"k" * 32, DATA, spent=False)
    assert entering.read_receipt(open_store("memory://twins-2")) is None
    assert len(read_book(open_store(place)).entries) == 1


def apply(place: str, number: int, folder: str) -> bool:
    try:
        return not goes_in(place, f"{folder}/run-{number}", cost(10.0))
    except PeBeamError:
        return False


def _process(place: str, folder: str, number: int, found: multiprocessing.Queue) -> None:
    found.put(sum(apply(place, 10 * number + each, folder) for each in range(5)))


def test_runs_at_once_do_not_overspend(tmp_path):
    """At mu^2 0.0718 there is room for 7 of 0.01. Threads on one store, and processes on a disk."""
    place, won = opened("race"), []
    threads = [
        threading.Thread(target=lambda n=n: won.append(apply(place, n, "memory://race-runs"))) for n in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(won) == len(read_book(open_store(place)).entries) == 7
    place = str(tmp_path / "book")
    create_book(place, name="race", epsilon=1, delta=1e-5)
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    workers = [context.Process(target=_process, args=(place, str(tmp_path), n, found)) for n in range(4)]
    for worker in workers:
        worker.start()
    assert sum(found.get(timeout=300) for _ in workers) == len(read_book(open_store(place)).entries) == 7
    for worker in workers:
        worker.join()


def test_a_book_that_was_changed_is_refused(tmp_path):
    """Each change of a line, each lost or moved line but the last; an older copy is found by who is in it."""
    place = str(tmp_path / "book")
    create_book(place, name="chain", epsilon=1, delta=1e-5)
    goes_in(place, str(tmp_path / "1"), cost(10.0))
    older = Path(place, BOOK).read_bytes()
    goes_in(place, str(tmp_path / "2"), cost(10.0))
    goes_in(place, str(tmp_path / "3"), cost(11.0))
    whole = Path(place, BOOK).read_bytes()
    first, *entries = whole.splitlines(keepends=True)
    more = json.loads(first) | {"epsilon": 100.0}
    for changed in (
        (json.dumps(more) + "\n").encode() + b"".join(entries),
        first + b"".join(entries[1:]),
        first + entries[0] + entries[2],
        first + entries[1] + entries[0] + entries[2],
        whole + entries[2],
        whole.replace(b"11.0", b"99.0"),
        first.replace(b"1e-05", b"2e-05"),
        whole[:-1],
        whole + b"{}\n",
        b"",
    ):
        Path(place, BOOK).write_bytes(changed)
        with pytest.raises(InputError, match="book"):
            read_book(open_store(place))
    Path(place, BOOK).write_bytes(older)
    with pytest.raises(InputError, match="not there; put the newest book back"):
        entering.demand_entered(open_store(tmp_path / "2"))
    Path(place, BOOK).write_bytes(whole)
    assert entering.demand_entered(open_store(tmp_path / "2"))


def test_a_check_of_a_book_without_runs_says_so(capsys):
    assert main(["book", "check", opened("nobody")]) == 0
    assert capsys.readouterr().out == "no run has entered yet\n"


def test_what_another_holder_wrote_does_not_steer_a_terminal(capsys):
    place = opened("steered")
    goes_in(place, "memory://steered-run", cost(10.0), name="\x1b[2Jrun")
    assert main(["book", "show", place]) == 0
    said = capsys.readouterr().out
    assert "[2Jrun" in said and "\x1b" not in said


def test_without_its_key_a_book_tells_nothing_of_data(tmp_path):
    """Two runs on the same data have different marks; the same data in another book are said, by name alone."""
    place = str(tmp_path / "first")
    create_book(place, name="first", epsilon=1, delta=1e-5)
    second = str(tmp_path / "second")
    create_book(second, name="second", epsilon=1, delta=1e-5, beside=[place])
    assert goes_in(place, str(tmp_path / "1"), cost(10.0)) == []
    assert goes_in(place, str(tmp_path / "2"), cost(10.0)) == []
    text = Path(place, BOOK).read_text()
    one, two = (e.line for e in read_book(open_store(place)).entries.values())
    assert one.mark != two.mark and DATA not in text
    assert Path(place, KEY).stat().st_mode & 0o077 == 0 and Path(place, "private").stat().st_mode & 0o077 == 0
    [said] = goes_in(second, str(tmp_path / "3"), cost(10.0))
    assert "'first'" in said and "very data" in said and DATA not in said
    [said] = goes_in(place, str(tmp_path / "4"), cost(10.0))  # the older book knows of the newer one
    assert "'second'" in said
    assert goes_in(second, str(tmp_path / "5"), cost(10.0), "ee" * 32) == []
    book = read_book(open_store(place))
    assert has_data(open_store(place), book, DATA) and not has_data(open_store(place), book, "ee" * 32)
    Path(place, KEY).write_bytes(b"short")
    with pytest.raises(InputError, match="without it no run enters"):
        goes_in(place, str(tmp_path / "6"), cost(20.0))

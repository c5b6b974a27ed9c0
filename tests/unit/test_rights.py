"""Who may see and do what: the table of R26 to R33, written from the rules and not from the code.

Columns: the allocataire (R26); a conjoint with the delegation (R27); a conjoint without (R29); a
conjoint allocataire (R28); a child or another person over 15 (R30); a guardian, who is a person
(R31). The last column says whether it is open while a first claim is under way (R32).
"""

from itertools import product

import pytest

from shared.models import Situation
from shared.rights import TABLE, Right, Standing, allows, may_be_told

COLUMNS = (
    Standing.ALLOCATAIRE,
    Standing.DELEGATE,
    Standing.CONJOINT,
    Standing.CONJOINT_ALLOCATAIRE,
    Standing.AUTRE,
    Standing.TUTEUR,
)
# fmt: off
RIGHTS = """
                                   | alloc. | deleg. | conj.  | c.-al. | other  | guard. | first cl.
read payments                      | yes    | yes    | no     | yes    | no     | yes    | yes
read rights in progress            | yes    | yes    | no     | yes    | no     | yes    | yes
read quotient familial             | yes    | yes    | no     | yes    | no     | yes    | no
read certificates                  | yes    | yes    | no     | yes    | no     | yes    | no
read debts                         | yes    | yes    | no     | yes    | no     | yes    | no
read where claims stand            | yes    | yes    | no     | yes    | no     | yes    | yes
read what the Caf still needs      | yes    | yes    | no     | yes    | no     | yes    | yes
read appointments                  | yes    | yes    | no     | yes    | no     | yes    | no
read letters                       | yes    | yes    | no     | yes    | no     | yes    | no
read alerts                        | yes    | yes    | no     | yes    | no     | yes    | no
read own data                      | yes    | yes    | yes    | yes    | yes    | yes    | yes
read others' contact details       | no     | no     | no     | no     | no     | no     | no
change own contact details         | yes    | yes    | yes    | yes    | no     | yes    | no
change own password                | yes    | yes    | yes    | yes    | yes    | yes    | yes
give or withdraw the delegation    | yes    | no     | no     | no     | no     | no     | no
declare a separation               | yes    | yes    | yes    | yes    | no     | yes    | no
declare changes                    | yes    | yes    | no     | yes    | no     | yes    | no
declare income                     | yes    | yes    | no     | yes    | no     | yes    | no
claim online                       | yes    | yes    | no     | yes    | no     | yes    | no
claim AAH, AJPA, BAFA or PALA      | yes    | yes    | yes    | yes    | no     | yes    | no
answer what the Caf asks           | yes    | yes    | no     | yes    | no     | yes    | yes
send documents                     | yes    | yes    | no     | yes    | no     | yes    | yes
contact by telephone or at the desk| yes    | yes    | yes    | yes    | no     | yes    | yes
contact by mail                    | yes    | yes    | no     | yes    | no     | yes    | yes
"""
# fmt: on
ROWS = [[cell.strip() for cell in line.split("|")] for line in RIGHTS.strip("\n").split("\n")[1:]]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_table(row: list[str]) -> None:
    right, first_claim = Right(row[0]), row[-1] == "yes"
    for standing, cell in zip(COLUMNS, row[1:-1], strict=True):
        expected = cell == "yes"
        assert allows(standing, Situation.AFFILIE, right) is expected, standing
        in_first_claim = expected and first_claim
        assert allows(standing, Situation.PRIMO_DEMANDEUR, right) is in_first_claim, standing


def test_the_table_has_every_right_and_everybody() -> None:
    assert [row[0] for row in ROWS] == [*Right]
    assert {*COLUMNS} == {*Standing}


def test_what_the_table_does_not_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for right in Right:
        monkeypatch.delitem(TABLE, right)
    assert not any(allows(*case) for case in product(Standing, Situation, Right))


def test_an_adviser_tells_what_the_caller_could_read() -> None:
    """R33; R29: nothing of the dossier to a conjoint without delegation."""
    told = {standing: sorted(may_be_told(standing, Situation.AFFILIE)) for standing in Standing}
    everything = sorted(row[0] for row in ROWS if row[0].startswith("read ") and row[1] == "yes")
    assert told == {
        Standing.ALLOCATAIRE: everything,
        Standing.DELEGATE: everything,
        Standing.CONJOINT: ["read own data"],
        Standing.CONJOINT_ALLOCATAIRE: everything,
        Standing.AUTRE: ["read own data"],
        Standing.TUTEUR: everything,
    }


def test_an_adviser_tells_nothing_to_somebody_unknown() -> None:
    assert may_be_told(None, Situation.AFFILIE) == frozenset()


def test_an_adviser_tells_of_a_first_claim_what_there_is() -> None:
    """R32."""
    assert sorted(may_be_told(Standing.ALLOCATAIRE, Situation.PRIMO_DEMANDEUR)) == [
        "read own data",
        "read payments",
        "read rights in progress",
        "read what the Caf still needs",
        "read where claims stand",
    ]

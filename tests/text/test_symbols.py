"""SymbolTable: numbers by name, plain state, errors that name the place."""

import pytest

from hmmtts.text import SymbolTable


def test_learned_table_starts_with_padding_and_ignores_order():
    table = SymbolTable.learn([["b", "a"], ["c", "a"]])
    assert table.symbols == ("_", "a", "b", "c")
    assert table == SymbolTable.learn([["c"], ["a", "b"]])
    assert table.encode(["c", "a"]) == [3, 1]
    assert table.decode([3, 1]) == ["c", "a"]


def test_state_is_plain_and_round_trips():
    table = SymbolTable.learn([["ˈɑː", "sil", "한"]])
    state = table.state()
    assert type(state) is list
    assert all(type(symbol) is str for symbol in state)
    assert SymbolTable.from_state(state) == table


def test_unknown_symbol_names_utterance_file_line_and_symbol():
    table = SymbolTable.learn([["a"]])
    with pytest.raises(
        ValueError, match=r"LJ7 \(metadata\.csv:17\): unknown symbols: 'g' \(U\+0067\), 'ɡ' \(U\+0261\)"
    ):
        table.encode(["a", "ɡ", "g"], where="LJ7 (metadata.csv:17)")


def test_padding_is_no_symbol_of_a_text():
    with pytest.raises(ValueError, match="padding"):
        SymbolTable.learn([["a", "_"]])
    with pytest.raises(ValueError, match="unknown symbols: '_'"):
        SymbolTable.learn([["a"]]).encode(["_"])


def test_a_damaged_state_is_refused():
    with pytest.raises(ValueError, match="begin with the padding"):
        SymbolTable.from_state(["a", "b"])
    with pytest.raises(ValueError, match=r"\['a'\] more than once"):
        SymbolTable.from_state(["_", "a", "a"])


def test_fine_tuning_maps_by_name():
    new, old = SymbolTable.learn([["b", "c", "d"]]), SymbolTable.learn([["a", "b", "d"]])
    assert new.shared(old) == {0: 0, 1: 2, 3: 3}
